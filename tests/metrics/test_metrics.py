"""Metrics against values counted by hand and against scikit-learn, and torchmetrics' protocol."""

import copy
import math

import numpy as np
import pytest

import chainrule as torch
import chainrule.nn as nn
from chainrule.metrics import Accuracy, ConfusionMatrix, MeanMetric, Metric


def scores(rows):
    return torch.tensor(rows, dtype=torch.float32)


def test_accuracy_counts_the_largest_score():
    metric = Accuracy(task="multiclass", num_classes=3)
    metric.update(scores([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0], [1.0, 5.0, 2.0]]), torch.tensor([2, 1, 1]))
    assert metric.compute().item() == pytest.approx(2 / 3)
    assert metric.compute().dtype is torch.float32


def test_accuracy_takes_class_indices():
    metric = Accuracy(task="multiclass", num_classes=3)
    assert metric(torch.tensor([0, 1, 2, 2]), torch.tensor([0, 1, 1, 2])).item() == 0.75


def test_forward_returns_the_batch_and_keeps_the_total():
    metric = Accuracy(task="multiclass", num_classes=2)
    assert metric(torch.tensor([0, 0]), torch.tensor([0, 0])).item() == 1.0
    assert metric(torch.tensor([0, 0, 0, 0]), torch.tensor([1, 1, 1, 1])).item() == 0.0
    assert metric.compute().item() == pytest.approx(2 / 6)
    assert metric.update_count == 2


def test_reset_forgets():
    metric = Accuracy(task="multiclass", num_classes=2)
    metric.update(torch.tensor([0]), torch.tensor([1]))
    metric.reset()
    assert not metric.update_called
    metric.update(torch.tensor([1]), torch.tensor([1]))
    assert metric.compute().item() == 1.0


def test_compute_before_update_warns():
    with pytest.warns(UserWarning, match="before update"):
        assert math.isnan(Accuracy(task="multiclass", num_classes=2).compute().item())


@pytest.mark.parametrize(
    ("preds", "expected"),
    [
        ([0.2, 0.7, 0.9, 0.4], 0.75),  # probabilities
        ([-2.0, 3.0, 4.0, -0.1], 0.75),  # logits, known by values outside of [0, 1]
        ([0, 1, 1, 1], 1.0),  # classes
    ],
)
def test_binary(preds, expected):
    metric = Accuracy(task="binary")
    assert metric(torch.tensor(preds), torch.tensor([0, 1, 1, 1])).item() == expected


def test_binary_threshold():
    assert Accuracy(task="binary", threshold=0.8)(scores([0.7, 0.9]), torch.tensor([0, 1])).item() == 1.0


def test_averages():
    preds, target = torch.tensor([0, 0, 0, 1, 1, 2]), torch.tensor([0, 0, 1, 1, 1, 0])
    # Per class: 2/3, 2/3, and class 2 has no targets but was predicted.
    expected = {"micro": 4 / 6, "macro": (2 / 3 + 2 / 3 + 0) / 3, "weighted": 2 / 3}
    for average, value in expected.items():
        assert Accuracy(task="multiclass", num_classes=3, average=average)(preds, target).item() == pytest.approx(value)
    per_class = Accuracy(task="multiclass", num_classes=3, average=None)(preds, target)
    np.testing.assert_allclose(per_class.numpy(), [2 / 3, 2 / 3, 0], rtol=1e-6)


def test_macro_leaves_out_classes_that_do_not_occur():
    metric = Accuracy(task="multiclass", num_classes=5, average="macro")
    assert metric(torch.tensor([0, 1]), torch.tensor([0, 1])).item() == 1.0


def test_top_k():
    logits = scores([[0.1, 0.5, 0.4], [0.6, 0.3, 0.1], [0.2, 0.3, 0.5]])
    target = torch.tensor([2, 2, 0])
    assert Accuracy(task="multiclass", num_classes=3)(logits, target).item() == 0.0
    assert Accuracy(task="multiclass", num_classes=3, top_k=2)(logits, target).item() == pytest.approx(1 / 3)
    assert Accuracy(task="multiclass", num_classes=3, top_k=3)(logits, target).item() == 1.0


def test_ignore_index():
    metric = Accuracy(task="multiclass", num_classes=3, ignore_index=-1)
    assert metric(torch.tensor([0, 1, 2]), torch.tensor([0, -1, 1])).item() == 0.5


def test_extra_axes():
    logits = torch.zeros(2, 3, 4)
    logits[:, 1] = 1.0
    target = torch.ones(2, 4, dtype=torch.int64)
    target[0, 0] = 0
    assert Accuracy(task="multiclass", num_classes=3)(logits, target).item() == pytest.approx(7 / 8)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Accuracy(task="multiclas", num_classes=2), "did you mean 'multiclass'"),
        (lambda: Accuracy(task="multiclass"), "needs num_classes"),
        (lambda: Accuracy(task="multiclass", num_classes=3, average="mean"), "average must be"),
        (lambda: Accuracy(task="multiclass", num_classes=3, top_k=4), "top_k"),
        (lambda: Accuracy(task="binary", threshold=2.0), "threshold"),
        (lambda: ConfusionMatrix(task="binary", normalize="rows"), "normalize"),
        (lambda: MeanMetric(nan_strategy="drop"), "nan_strategy"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_unknown_keyword():
    with pytest.raises(TypeError, match="dist_sync"):
        MeanMetric(dist_sync=True)


@pytest.mark.parametrize(
    ("preds", "target", "message"),
    [
        (torch.zeros(4, 3), torch.zeros(4), "class indices"),
        (torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64), "do not fit"),
        (torch.zeros(5, 3), torch.zeros(4, dtype=torch.int64), "do not fit"),
        (torch.zeros(4, 3), torch.tensor([0, 1, 2, 3]), "got:      3"),
        (torch.tensor([0, -1]), torch.tensor([0, 1]), "prediction is no class index"),
    ],
)
def test_bad_batches_leave_the_state_alone(preds, target, message):
    metric = Accuracy(task="multiclass", num_classes=3)
    metric.update(torch.tensor([0, 1]), torch.tensor([0, 0]))
    with pytest.raises(ValueError, match=message):
        metric(preds, target)
    assert metric.compute().item() == 0.5


def test_confusion_matrix_against_scikit_learn():
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    target, preds = rng.integers(0, 4, 200), rng.integers(0, 4, 200)
    metric = ConfusionMatrix(task="multiclass", num_classes=4)
    for part in np.array_split(np.arange(200), 3):
        metric.update(torch.from_numpy(preds[part]), torch.from_numpy(target[part]))
    np.testing.assert_array_equal(metric.compute().numpy(), sklearn_metrics.confusion_matrix(target, preds))
    for normalize in ("true", "pred", "all"):
        ours = ConfusionMatrix(task="multiclass", num_classes=4, normalize=normalize)
        ours.update(torch.from_numpy(preds), torch.from_numpy(target))
        theirs = sklearn_metrics.confusion_matrix(target, preds, normalize=normalize)
        np.testing.assert_allclose(ours.compute().numpy(), theirs, rtol=1e-6)


def test_confusion_matrix_rows_are_targets():
    matrix = ConfusionMatrix(task="binary")(torch.tensor([1, 1, 0]), torch.tensor([0, 1, 0]))
    assert matrix.tolist() == [[1, 1], [0, 1]]


def test_normalized_rows_without_samples_are_zero():
    metric = ConfusionMatrix(task="multiclass", num_classes=3, normalize="true")
    assert metric(torch.tensor([0, 1]), torch.tensor([0, 0])).tolist() == [[0.5, 0.5, 0.0], [0.0] * 3, [0.0] * 3]


def test_mean_is_weighted():
    metric = MeanMetric()
    metric.update(torch.tensor([1.0, 2.0, 3.0]))
    metric.update(10.0, weight=3.0)
    assert metric.compute().item() == pytest.approx((1 + 2 + 3 + 30) / 6)


def test_mean_forward_gives_the_batch():
    metric = MeanMetric()
    assert metric(2.0).item() == 2.0
    assert metric(torch.tensor([4.0, 6.0]), weight=torch.tensor([1.0, 3.0])).item() == 5.5
    assert metric.compute().item() == pytest.approx((2 + 4 + 18) / 5)


def test_mean_keeps_precision_over_many_updates():
    metric = MeanMetric()
    for _ in range(1000):
        metric.update(np.float32(0.1), weight=1000)
    assert metric.compute().item() == pytest.approx(np.float32(0.1), rel=1e-7)


def test_mean_of_nan():
    values = torch.tensor([1.0, float("nan"), 3.0])
    with pytest.warns(UserWarning, match="1 of 3"):
        assert MeanMetric()(values).item() == 2.0
    assert MeanMetric(nan_strategy="ignore")(values).item() == 2.0
    assert MeanMetric(nan_strategy=2.0)(torch.tensor([float("nan")])).item() == 2.0
    assert math.isnan(MeanMetric(nan_strategy="disable")(values).item())
    with pytest.raises(RuntimeError, match="1 of 3"):
        MeanMetric(nan_strategy="error")(values)


class Largest(Metric):
    """A metric whose state is no sum, written by a user."""

    def __init__(self):
        super().__init__()
        self.add_state("seen", [], dist_reduce_fx="cat")

    def update(self, values):
        self.seen.append(values.max())

    def compute(self):
        return torch.stack(self.seen).max()


def test_a_metric_of_ones_own():
    metric = Largest()
    assert metric(torch.tensor([1.0, 5.0])).item() == 5.0
    assert metric(torch.tensor([2.0, 3.0])).item() == 3.0
    assert metric.compute().item() == 5.0
    assert len(metric.seen) == 2


def test_compute_is_remembered_until_the_next_update():
    metric = Largest()
    metric.update(torch.tensor([1.0]))
    assert metric.compute() is metric.compute()
    metric.update(torch.tensor([2.0]))
    assert metric.compute().item() == 2.0


def test_update_and_compute_record_no_gradient():
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    metric = Largest()
    metric.update(x * 2)
    assert not metric.compute().requires_grad


def test_bad_states():
    metric = Largest()
    with pytest.raises(ValueError, match="tensor or an empty list"):
        metric.add_state("total", 0.0)
    with pytest.raises(ValueError, match="dist_reduce_fx"):
        metric.add_state("total", torch.zeros(1), dist_reduce_fx="product")


def test_a_metric_is_a_submodule_without_parameters_or_saved_state():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 2)
            self.accuracy = Accuracy(task="multiclass", num_classes=2)

    model = Model()
    model.accuracy.update(torch.tensor([0]), torch.tensor([0]))
    assert sorted(model.state_dict()) == ["layer.bias", "layer.weight"]
    assert model.accuracy in list(model.modules())
    twin = copy.deepcopy(model)
    twin.accuracy.update(torch.tensor([0]), torch.tensor([1]))
    assert model.accuracy.compute().item() == 1.0
    assert twin.accuracy.compute().item() == 0.5
    assert "num_classes=2" in repr(model)
