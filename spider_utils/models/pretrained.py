"""ImageNet weights of timm's networks, from the Hugging Face hub, as safetensors only."""

from __future__ import annotations

from torch import nn

WEIGHTS_FILE = "model.safetensors"


def hub_name(network: nn.Module) -> str:
    """Where timm's makers publish a network's weights, "timm/<name>.<tag>".

    Some networks of timm name only an older file, a pickle, which is never opened here; the hub holds them under their own name.
    """
    config = network.pretrained_cfg
    return config.get("hf_hub_id") or f"timm/{config['architecture']}.{config['tag']}"


def load_imagenet_weights(network: nn.Module) -> str | None:
    """Give a network of timm its ImageNet weights, fetched on first use and kept in the hub's cache on disk.

    Args:
        network: of timm, without a head of its own; weights of heads are left out.

    Returns:
        None when all went well; else one line that says why not, and the network is as it was.
    """
    from timm.models import load_state_dict_from_hf

    try:
        found = load_state_dict_from_hf(hub_name(network), WEIGHTS_FILE)
    except Exception as error:  # no network, no such file, a damaged one: the hub raises a dozen kinds
        return f"{hub_name(network)}: {(str(error).strip() or type(error).__name__).splitlines()[0]}"
    wanted = network.state_dict()
    fitting = {name: found[name] for name in wanted if name in found and found[name].shape == wanted[name].shape}
    # Files from before torch 1.0 lack the batch norms' counters, which only an average without momentum needs.
    lacking = [name for name in wanted if name not in fitting and not name.endswith("num_batches_tracked")]
    if lacking:
        return f"{hub_name(network)}: the file lacks {len(lacking)} tensors of this network, such as {lacking[0]}"
    network.load_state_dict(fitting, strict=False)
    return None
