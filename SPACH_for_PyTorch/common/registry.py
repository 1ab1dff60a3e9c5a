"""What the model files share: upstream's factories out of a table of variants, and the sentence for an unknown name."""


def look_up(name, variants):
    """variants[name]. Raises ValueError that lists the known names."""
    if name not in variants:
        raise ValueError('unknown model %r; known: %s' % (name, ', '.join(sorted(variants))))
    return variants[name]


def factories(create_model, names):
    """-> {name: function}: upstream's entry points, such as van_b0(num_classes=10), for a module's globals().

    pretrained=True is refused rather than ignored: no weights come with the code.
    """
    def build(name):
        def factory(pretrained=False, **kwargs):
            if pretrained:
                raise ValueError('%s brings no weights of its own; load a checkpoint file' % name)
            return create_model(name, **kwargs)
        factory.__name__ = factory.__qualname__ = name
        factory.__doc__ = 'create_model(%r, **kwargs), under the name of upstream.' % name
        return factory
    return {name: build(name) for name in names}
