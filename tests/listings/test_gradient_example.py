"""A textbook's small network, by backward() and by Kronecker products, in PyTorch's calls, unchanged."""

import chainrule as torch
import chainrule.nn.functional as F


def close(tensor, numbers):
    return torch.allclose(tensor.detach(), torch.tensor(numbers), rtol=0.0, atol=5e-5)


def test_a_small_network_by_backward_and_by_formula():
    x = torch.tensor([1.0, 0.0, -1.0])
    y = torch.tensor([0.0, 1.0])
    W0 = torch.tensor([[0.0, 1.0, -1.0], [2.0, 0.0, 1.0]], requires_grad=True)
    W1 = torch.tensor([[-1.0, 0.0], [2.0, -1.0]], requires_grad=True)

    z0 = x
    z1 = F.sigmoid(W0 @ z0)
    z2 = F.softmax(W1 @ z1, dim=0)
    f = -torch.dot(torch.log(z2), y)
    assert close(z1, [0.7311, 0.7311])
    assert close(z2, [0.1881, 0.8119])
    assert close(f, 0.2084)

    f.backward()
    assert close(W0.grad, [[-0.1110, 0.0, 0.1110], [0.0370, 0.0, -0.0370]])
    assert close(W1.grad, [[0.1375, 0.1375], [-0.1375, -0.1375]])

    with torch.no_grad():
        grad_W0 = torch.kron((z2 - y).unsqueeze(0) @ W1 @ torch.diag(z1 * (1 - z1)), z0.unsqueeze(0))
        grad_W1 = torch.kron((z2 - y).unsqueeze(0), z1.unsqueeze(0))
    assert not grad_W0.requires_grad
    assert grad_W0.shape == (1, 6)
    assert torch.allclose(grad_W0, W0.grad.reshape(1, -1))
    assert torch.allclose(grad_W1, W1.grad.reshape(1, -1))


def test_what_the_small_network_prints():
    x = torch.tensor([1.0, 0.0, -1.0])
    W0 = torch.tensor([[0.0, 1.0, -1.0], [2.0, 0.0, 1.0]], requires_grad=True)
    W1 = torch.tensor([[-1.0, 0.0], [2.0, -1.0]], requires_grad=True)
    z1 = F.sigmoid(W0 @ x)
    z2 = F.softmax(W1 @ z1, dim=0)
    f = -torch.dot(torch.log(z2), torch.tensor([0.0, 1.0]))
    assert repr(x) == "tensor([ 1.,  0., -1.])"
    assert repr(z1) == "tensor([0.7311, 0.7311], grad_fn=<SigmoidBackward0>)"
    assert repr(z2) == "tensor([0.1881, 0.8119], grad_fn=<SoftmaxBackward0>)"
    assert repr(f) == "tensor(0.2084, grad_fn=<NegBackward0>)"
    f.backward()
    assert repr(W1.grad) == "tensor([[ 0.1375,  0.1375],\n        [-0.1375, -0.1375]])"
