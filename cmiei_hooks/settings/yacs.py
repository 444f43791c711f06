"""Register the section ``MODEL.C_MIEI`` in a yacs configuration. It does not import yacs."""

from __future__ import annotations

from typing import Any

from ..errors import ConfigError
from .config import Config
from .section import SECTION

__all__ = ["add_cmiei_config"]


def add_cmiei_config(cfg: Any) -> Any:
    """Register the section ``MODEL.C_MIEI`` with its defaults in a yacs ``CfgNode``.

    After that, ``cfg.merge_from_file`` accepts the section. Settings that the section already has
    are kept. Returns ``cfg``.

    Raises:
        ConfigError: ``cfg`` is not a yacs node, or it is frozen.

    Example:
        >>> add_cmiei_config(cfg)
        >>> cfg.merge_from_file("DeMo_C_MIEI.yml")
    """
    if not (isinstance(cfg, dict) and hasattr(cfg, "is_frozen")):
        raise ConfigError(
            "the section can only be registered in a yacs node",
            got=type(cfg).__name__,
            expected="a yacs.config.CfgNode",
            remedy="other configurations need no registration: pass them to attach(config=...)",
        )
    if cfg.is_frozen():
        raise ConfigError(
            "the configuration is frozen",
            got="a frozen CfgNode",
            expected="a CfgNode that is not frozen",
            remedy="call add_cmiei_config(cfg) before cfg.freeze()",
        )
    node = cfg
    for name in SECTION:
        if name not in node:
            node[name] = type(cfg)()
        node = node[name]
        if not isinstance(node, type(cfg)) or node.is_frozen():
            raise ConfigError(
                f"{name} is not a section that can be changed",
                got="a frozen node" if isinstance(node, type(cfg)) else repr(node),
                expected="a CfgNode that is not frozen",
                remedy="call add_cmiei_config(cfg) first, and freeze afterwards",
            )
    for key, value in Config().to_dict().items():
        node.setdefault(key, value)
    return cfg
