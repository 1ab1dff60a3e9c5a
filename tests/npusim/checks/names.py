"""The stand-ins have no name and no parameter that the real packages have not."""

import enum
import inspect
import pkgutil
import types

import apex
import apex.amp
import apex.optimizers
import ascend_api
import torch
import torch_npu

VERSION = '2.1.0.post8'  # the oldest torch_npu that is supported; what it lacks, code must ask for
OWN = {'torch_npu.SIMULATED'}


def modules(package):
    yield package
    for found in pkgutil.iter_modules(getattr(package, '__path__', ())):
        if not found.name.startswith('_'):
            yield from modules(__import__(package.__name__ + '.' + found.name, fromlist=['x']))


def public(module):
    """-> (name, value) of what a user of the module sees: its __all__, or what is not imported from elsewhere."""
    exported = getattr(module, '__all__', None)
    for name, value in vars(module).items():
        if isinstance(value, types.ModuleType):
            if value.__name__ == module.__name__ + '.' + name and not name.startswith('_'):
                yield name, value
        elif name in exported if exported is not None else not name.startswith('_') and is_own(value):
            yield name, value


def is_own(value):
    code = inspect.isclass(value) or inspect.isfunction(value)
    return not code or value.__module__.split('.')[0] in ('torch_npu', 'apex')


def differences(value, text):
    """-> how a function or class of the stand-in differs from its text in the manifest."""
    mine, real = inspect.signature(value).parameters.values(), ascend_api.parameters(text).parameters.values()
    shape = [[(p.name, p.kind, p.default is p.empty) for p in side] for side in (mine, real)]
    if shape[0] != shape[1]:
        return '%s, but it is %s' % (inspect.signature(value), ascend_api.parameters(text))
    for p, q in zip(mine, real):
        known = isinstance(q.default, (int, float, bool, tuple, type(None)))
        if q.default is not q.empty and known and p.default != q.default:
            return '%s=%r, but it is %r' % (p.name, p.default, q.default)
    return ''


def problems(package, version):
    for module in modules(package):
        for name, value in public(module):
            dotted = module.__name__ + '.' + name
            text = ascend_api.lookup(dotted, version)
            if dotted in OWN:
                continue
            if not text:
                yield dotted + ': there is no such name'
            elif isinstance(value, torch._ops.OpOverloadPacket):
                if str(value.default._schema) != str(torch._C.parse_schema('npu::' + name + text)):
                    yield '%s: %s, but it is %s' % (dotted, value.default._schema, text)
            elif '(' in text and callable(value) and not is_enum(value):
                reason = differences(value, text)
                if reason:
                    yield '%s: %s' % (dotted, reason)
                if inspect.isclass(value):
                    yield from methods(dotted, value, version)


def is_enum(value):
    return inspect.isclass(value) and issubclass(value, enum.Enum)  # its call is Python's


def methods(dotted, cls, version):
    for name, value in vars(cls).items():
        text = ascend_api.lookup(dotted + '.' + name, version)
        if name.startswith('_') or not inspect.isfunction(value):
            continue
        if not text:
            yield '%s.%s: there is no such method' % (dotted, name)
        elif text.startswith('('):
            without_self = list(inspect.signature(value).parameters)[1:]
            if without_self != list(ascend_api.parameters(text).parameters):
                yield '%s.%s takes %s, but it is %s' % (dotted, name, without_self, text)


def check_torch_npu():
    found = list(problems(torch_npu, VERSION))
    assert not found, '\n'.join(found)


def check_apex():
    found = list(problems(apex, 'master'))
    assert not found, '\n'.join(found)


def check_that_differences_are_seen():
    def set_device(device, wait=True):
        pass

    assert differences(set_device, '(device)') and differences(lambda lr=0.1: 0, '(lr=.2)')
    assert not differences(lambda device: 0, '(device)')


def check_it_says_what_it_is():
    assert torch_npu.SIMULATED and torch_npu.__version__.endswith('+sim')
