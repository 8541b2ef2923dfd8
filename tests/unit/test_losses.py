"""Losses against values worked out by hand."""

import math

import pytest
import torch
from torchvision.ops import sigmoid_focal_loss

from spider_utils.training.losses import LOSSES, FocalDiceLoss, FocalLoss, make_loss


def logits_of(probabilities):
    """Logits whose softmax over the last axis is ``probabilities`` (pixels, classes), as (1, classes, 1, pixels)."""
    return torch.tensor(probabilities).log().T[None, :, None, :]


# Two pixels, three classes. True classes: 0 and 1. Class 2 is absent.
TWO_PIXELS = logits_of([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25]])
TRUTH = torch.tensor([[[0, 1]]])


def test_cross_entropy_by_hand():
    assert make_loss("ce", 3)(TWO_PIXELS, TRUTH).item() == pytest.approx(math.log(2))


def test_dice_by_hand_leaves_the_absent_class_out():
    # Class 0: overlap 0.5, sum p 0.75, sum t 1: Dice 1/1.75; class 1 the same; class 2 is in no pixel of the truth.
    assert make_loss("dice", 3)(TWO_PIXELS, TRUTH).item() == pytest.approx(1 - 1 / 1.75)


def test_dice_ce_is_the_sum():
    total = make_loss("dice_ce", 3)(TWO_PIXELS, TRUTH).item()
    assert total == pytest.approx(math.log(2) + 1 - 1 / 1.75)


def test_dice_is_pooled_over_the_batch():
    # Class 1 has one true pixel in the whole batch, in the second image; class 0 three.
    logits = torch.cat([logits_of([[0.8, 0.2], [0.6, 0.4]]), logits_of([[0.9, 0.1], [0.3, 0.7]])])
    truth = torch.tensor([[[0, 0]], [[0, 1]]])
    background = 2 * (0.8 + 0.6 + 0.9) / ((0.8 + 0.6 + 0.9 + 0.3) + 3)
    structure = 2 * 0.7 / ((0.2 + 0.4 + 0.1 + 0.7) + 1)
    assert make_loss("dice", 2)(logits, truth).item() == pytest.approx(1 - (background + structure) / 2)


def test_monais_loss_is_ours_where_one_item_shows_every_class():
    torch.manual_seed(0)
    logits, truth = torch.randn(1, 3, 4, 5, 6), torch.arange(120).reshape(1, 4, 5, 6) % 3
    ours, theirs = (make_loss(name, 3)(logits, truth).item() for name in ("dice_ce", "monai_dice_ce"))
    assert theirs == pytest.approx(ours, rel=1e-5)


def test_monais_loss_counts_absent_classes_and_single_items():
    # As by hand above, but class 2, which no pixel has, counts as a loss of 1.
    two_of_three = 1 - 1 / 1.75
    assert make_loss("monai_dice_ce", 3)(TWO_PIXELS, TRUTH).item() == pytest.approx(
        math.log(2) + (2 * two_of_three + 1) / 3, rel=1e-4
    )
    # Two items, each with one class: the kit pools them, MONAI counts the other class of each as lost.
    logits, truth = logits_of([[0.8, 0.2]]).repeat(2, 1, 1, 1), torch.tensor([[[0]], [[1]]])
    entropy = -(math.log(0.8) + math.log(0.2)) / 2
    of_items = (1 - 1.6 / 1.8 + 1) / 2, (1 + 1 - 0.4 / 1.2) / 2
    assert make_loss("monai_dice_ce", 2)(logits, truth).item() == pytest.approx(entropy + sum(of_items) / 2, rel=1e-4)


def test_pixels_given_to_an_absent_class_still_cost():
    truth = torch.zeros(1, 1, 2, dtype=torch.int64)
    right = logits_of([[0.98, 0.01, 0.01]] * 2)
    wrong = logits_of([[0.5, 0.01, 0.49]] * 2)
    for name in LOSSES:
        assert make_loss(name, 3)(wrong, truth) > make_loss(name, 3)(right, truth)


def test_an_absent_class_without_any_probability_is_no_division_by_zero():
    logits = torch.tensor([1000.0, 0.0, 0.0]).view(1, 3, 1, 1).repeat(1, 1, 1, 2).requires_grad_()
    loss = make_loss("dice", 3)(logits, torch.zeros(1, 1, 2, dtype=torch.int64))
    loss.backward()
    assert loss.item() == 0 and logits.grad.isfinite().all()


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_perfect_is_zero_and_wrong_is_large(name):
    truth = torch.randint(0, 4, (2, 8, 8), generator=torch.Generator().manual_seed(0))
    perfect = 50.0 * torch.nn.functional.one_hot(truth, 4).permute(0, 3, 1, 2)
    loss = make_loss(name, 4)
    assert loss(perfect, truth).item() == pytest.approx(0, abs=1e-5)
    assert loss(perfect, (truth + 1) % 4).item() > 0.9


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_half_precision_logits_are_summed_in_float32(name):
    logits = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    truth = torch.randint(0, 3, (2, 64, 64), generator=torch.Generator().manual_seed(1))
    low = logits.bfloat16().requires_grad_()
    loss = make_loss(name, 3)(low, truth)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(make_loss(name, 3)(low.detach().float(), truth).item(), rel=1e-6)
    assert low.grad.isfinite().all() and low.grad.any()


def test_dice_agrees_with_segmentation_models_pytorch_where_all_classes_are_present():
    from segmentation_models_pytorch.losses import DiceLoss

    logits = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    truth = torch.randint(0, 4, (2, 16, 16), generator=torch.Generator().manual_seed(1))
    assert make_loss("dice", 4)(logits, truth).item() == pytest.approx(DiceLoss("multiclass")(logits, truth).item())


def test_volumes_work_like_slices():
    logits = torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    truth = torch.randint(0, 3, (2, 4, 8, 8), generator=torch.Generator().manual_seed(1))
    flat = make_loss("dice_ce", 3)(logits.flatten(2, 3), truth.flatten(1, 2))
    assert make_loss("dice_ce", 3)(logits, truth).item() == pytest.approx(flat.item())


def test_bad_names_and_channels_are_refused():
    with pytest.raises(ValueError, match="unknown loss 'mse'. Known are: ce, dice, dice_ce"):
        make_loss("mse", 3)
    for name in ("dice", "dice_ce"):
        with pytest.raises(ValueError, match="3 channels, the loss was made for 4"):
            make_loss(name, 4)(TWO_PIXELS, torch.full_like(TRUTH, 3))


@pytest.mark.parametrize("gamma", [0.0, 0.4, 4.0])
def test_focal_by_hand(gamma):
    # Both pixels give their true class 0.5: (1 - 0.5) ** gamma * log 2.
    assert FocalLoss(gamma)(TWO_PIXELS, TRUTH).item() == pytest.approx(0.5**gamma * math.log(2))


@pytest.mark.parametrize("gamma", [0.0, 0.4, 2.0, 4.0])
def test_focal_of_two_classes_is_that_of_the_library(gamma):
    score = torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(0))
    truth = torch.randint(2, (3, 5, 7), generator=torch.Generator().manual_seed(1))
    # The softmax of (0, score) is the sigmoid of the score.
    logits = torch.stack([torch.zeros_like(score), score], dim=1)
    expected = sigmoid_focal_loss(score, truth.float(), alpha=-1, gamma=gamma, reduction="mean")
    torch.testing.assert_close(FocalLoss(gamma)(logits, truth), expected)


def test_focal_without_focus_is_cross_entropy():
    logits = torch.randn(2, 4, 5, 7, generator=torch.Generator().manual_seed(0))
    truth = torch.randint(4, (2, 5, 7), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(FocalLoss(0.0)(logits, truth), torch.nn.functional.cross_entropy(logits, truth))


@pytest.mark.parametrize(("name", "gamma"), [("focal4_dice", 4.0), ("focal0.4_dice", 0.4)])
def test_focal_dice_by_hand(name, gamma):
    # Focal and Dice of these two pixels as above; class 2 is absent and in neither term.
    expected = 0.6 * 0.5**gamma * math.log(2) + 0.4 * (1 - 1 / 1.75)
    assert make_loss(name, 3)(TWO_PIXELS, TRUTH).item() == pytest.approx(expected)


def test_focal_looks_at_uncertain_pixels():
    sure, unsure = logits_of([[0.9, 0.1]]), logits_of([[0.6, 0.4]])
    truth = torch.zeros(1, 1, 1, dtype=torch.int64)
    ratios = [FocalLoss(gamma)(unsure, truth) / FocalLoss(gamma)(sure, truth) for gamma in (0.0, 0.4, 4.0)]
    assert ratios == sorted(ratios) and ratios[-1] > 100


@pytest.mark.parametrize("gamma", [0.4, 4.0])
def test_focal_of_a_certain_pixel_has_a_finite_gradient(gamma):
    logits = torch.tensor([1000.0, 0.0]).view(1, 2, 1, 1).requires_grad_()
    loss = FocalLoss(gamma)(logits, torch.zeros(1, 1, 1, dtype=torch.int64))
    loss.backward()
    assert loss.item() == 0 and logits.grad.isfinite().all()


@pytest.mark.parametrize(("alpha", "gamma"), [(-0.1, 1), (1.1, 1), (0.5, -1), (0.5, math.nan), (math.nan, 1)])
def test_focal_dice_refuses_other_numbers(alpha, gamma):
    with pytest.raises(ValueError, match="alpha must lie|gamma must be"):
        FocalDiceLoss(2, alpha, gamma)
