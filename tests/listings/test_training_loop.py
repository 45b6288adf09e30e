"""A textbook's training script: device, seeds, loader, two layers, SGD and Adam, in PyTorch's calls, unchanged."""

import pytest

import chainrule as torch
import chainrule.nn as nn
import chainrule.optim as optim
from chainrule.utils.data import DataLoader, TensorDataset
from chainrule.vision import datasets, transforms

SEED = 42
BATCH_SIZE = 32


def choose_device():
    return torch.device(
        "cuda" if torch.cuda.is_available() else ("mps" if torch.backends.mps.is_available() else "cpu"),
    )


def seed_everything(device):
    torch.manual_seed(SEED)
    if device.type == "cuda":
        torch.cuda.manual_seed(SEED)
        torch.cuda.manual_seed_all(SEED)
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False
    elif device.type == "mps":
        torch.mps.manual_seed(SEED)
    g = torch.Generator()
    g.manual_seed(SEED)
    return g


def make_model(device):
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(28 * 28, 32),
        nn.Sigmoid(),
        nn.Linear(32, 10),
    ).to(device)


def training_loop(train_loader, model, loss_fn, optimizer, device, epochs=3):
    """Train in place; returns the mean loss of each epoch."""
    means = []
    for _ in range(epochs):
        model.train()
        total = 0.0
        for X, y in train_loader:
            X, y = X.to(device), y.to(device)
            pred = model(X)
            loss = loss_fn(pred, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        means.append(total / len(train_loader))
    return means


def accuracy_on(dataloader, model, device):
    """Percent of right answers."""
    model.eval()
    correct = 0
    with torch.no_grad():
        for X, y in dataloader:
            X, y = X.to(device), y.to(device)
            pred = model(X)
            correct += (pred.argmax(dim=1) == y).type(torch.float).sum().item()
    return 100 * correct / len(dataloader.dataset)


def synthetic_images(count, seed):
    """Images whose class is the brightest of ten blocks of rows: easy for a linear layer."""
    g = torch.Generator()
    g.manual_seed(seed)
    labels = torch.randint(0, 10, (count,), generator=g)
    images = 0.3 * torch.rand(count, 1, 28, 28, generator=g)
    for index, label in enumerate(labels.tolist()):
        images[index, 0, 2 * label : 2 * label + 3] += 0.6
    return TensorDataset(images, labels)


def test_the_device_is_the_cpu():
    device = choose_device()
    assert device.type == "cpu"
    assert str(device) == "cpu"


def test_the_settings_of_other_devices_can_be_written():
    torch.cuda.manual_seed(SEED)
    torch.cuda.manual_seed_all(SEED)
    torch.mps.manual_seed(SEED)
    before = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = before


@pytest.mark.parametrize(
    ("make_optimizer", "floor"),
    [
        pytest.param(lambda parameters: optim.SGD(parameters, lr=1e-1), 60.0, id="SGD"),
        pytest.param(lambda parameters: optim.Adam(parameters), 90.0, id="Adam"),
    ],
)
def test_the_loop_learns_an_easy_task(make_optimizer, floor):
    device = choose_device()
    g = seed_everything(device)
    train_loader = DataLoader(synthetic_images(1500, 1), batch_size=BATCH_SIZE, shuffle=True, generator=g)
    test_loader = DataLoader(synthetic_images(500, 2), batch_size=BATCH_SIZE, shuffle=False)
    model = make_model(device)
    optimizer = make_optimizer(model.parameters())
    means = training_loop(train_loader, model, nn.CrossEntropyLoss(), optimizer, device, epochs=6)
    assert means[-1] < means[0]
    assert accuracy_on(test_loader, model, device) >= floor


def test_the_same_seed_gives_the_same_weights():
    def train():
        device = choose_device()
        g = seed_everything(device)
        loader = DataLoader(synthetic_images(200, 1), batch_size=BATCH_SIZE, shuffle=True, generator=g)
        model = make_model(device)
        training_loop(loader, model, nn.CrossEntropyLoss(), optim.Adam(model.parameters()), device, epochs=2)
        return [parameter.detach().clone() for parameter in model.parameters()]

    assert all(torch.equal(first, second) for first, second in zip(train(), train(), strict=True))


@pytest.mark.slow
def test_fashion_mnist_with_sgd_and_then_adam(data_root):
    """SGD reaches 61 to 68 %, by its start; Adam, going on from there for three epochs as the listing does, 84 to 87 %.

    Nine seeds of PyTorch gave 61.5 to 66.4 %; given this test's initial weights and order of images, it ends at the
    same 65.96 % as chainrule.
    """
    device = choose_device()
    g = seed_everything(device)
    root = str(data_root)
    train_dataset = datasets.FashionMNIST(root=root, train=True, download=False, transform=transforms.ToTensor())
    test_dataset = datasets.FashionMNIST(root=root, train=False, download=False, transform=transforms.ToTensor())
    train_loader = DataLoader(train_dataset, batch_size=BATCH_SIZE, shuffle=True, generator=g)
    test_loader = DataLoader(test_dataset, batch_size=BATCH_SIZE, shuffle=False)
    model = make_model(device)

    loss_fn = nn.CrossEntropyLoss()
    optimizer = optim.SGD(model.parameters(), lr=1e-3)
    training_loop(train_loader, model, loss_fn, optimizer, device, epochs=10)
    assert 60.0 <= accuracy_on(test_loader, model, device) <= 69.0

    loss_fn = nn.CrossEntropyLoss()
    optimizer = optim.Adam(model.parameters())
    training_loop(train_loader, model, loss_fn, optimizer, device)
    assert 84.0 <= accuracy_on(test_loader, model, device) <= 87.0


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_fashion_mnist_with_adam_alone(data_root, seed):
    """85 +- 1 % after three epochs."""
    device = choose_device()
    torch.manual_seed(seed)
    g = torch.Generator()
    g.manual_seed(seed)
    root = str(data_root)
    train_dataset = datasets.FashionMNIST(root=root, train=True, download=True, transform=transforms.ToTensor())
    test_dataset = datasets.FashionMNIST(root=root, train=False, download=True, transform=transforms.ToTensor())
    train_loader = DataLoader(train_dataset, batch_size=BATCH_SIZE, shuffle=True, generator=g)
    test_loader = DataLoader(test_dataset, batch_size=BATCH_SIZE, shuffle=False)
    model = make_model(device)
    training_loop(train_loader, model, nn.CrossEntropyLoss(), optim.Adam(model.parameters()), device)
    assert accuracy_on(test_loader, model, device) == pytest.approx(85.0, abs=1.0)
