"""What the model files share: their variants by name, and the entry points that upstream has for them."""

from typing import Any, Callable, Mapping

from torch import nn


def look_up(name: str, variants: Mapping[str, Any]) -> Any:
    """-> variants[name]. Raises ValueError with the known names for any other."""
    if name not in variants:
        raise ValueError(f'unknown model {name!r}; known: {", ".join(sorted(variants))}')
    return variants[name]


def entry_point(create_model: Callable[..., nn.Module], name: str) -> Callable[..., nn.Module]:
    """-> upstream's function of that name, such as van_b0(num_classes=10). Its pretrained=True raises ValueError."""

    def factory(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        if pretrained:
            raise ValueError(f'{name} brings no weights of its own; load a checkpoint file')
        return create_model(name, **kwargs)

    factory.__name__ = factory.__qualname__ = name
    return factory
