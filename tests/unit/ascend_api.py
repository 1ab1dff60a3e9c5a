"""The real API of torch_npu and apex, as tests/data/*_api.json holds it: does a name exist, does a call fit it."""

import ast
import functools
import importlib
import inspect
import json
import re
from pathlib import Path

DATA = Path(__file__).parent.parent / 'data'


@functools.cache
def manifest(package):
    return json.loads((DATA / (package + '_api.json')).read_text())


def versions(dotted):
    return manifest(dotted.split('.')[0])['versions']


def lookup(dotted, version):
    """-> what the release says of a name: module, object, class(parameters) of base, (parameters); '' if nothing.

    An operator of torch_npu is its schema; one that is overloaded is not in the file.
    """
    table = manifest(dotted.split('.')[0])
    prefix, _, name = dotted.rpartition('.')
    if prefix in ('torch_npu', 'torch.ops.npu') and name in table['ops']:
        return found(table['ops'][name], version)
    if '.' not in dotted or (re.fullmatch(r'__\w+__', name) and name != '__all__'):
        return 'module' if '.' not in dotted else 'object'
    if dotted in table['python']:
        return found(table['python'][dotted], version)
    owner = found(table['python'].get(prefix, {}), version)
    if owner.startswith('class') and ' of ' in owner:
        return 'object' if hasattr(torch_class(owner.split(' of ')[1]), name) else ''
    return ''


def found(texts, version):
    return next((text for text, known in texts.items() if known == 'all' or version in known), '')


def torch_class(dotted):
    """The class of torch that a class of torch_npu is made from; object where this torch has moved it."""
    place, _, name = dotted.rpartition('.')
    try:
        return getattr(importlib.import_module(place), name)
    except (ImportError, AttributeError):
        return object


@functools.cache
def parameters(text):
    """-> inspect.Signature of '(a, b=1)', 'class(a, b=1) of base' or an operator's '(Tensor a, int b=1) -> Tensor'."""
    if ' -> ' in text:
        return inspect.Signature(list(schema_parameters(text)))
    text = re.sub(' of [a-zA-Z_.]+$', '', text)
    arguments = ast.parse(f'def f{text[text.index("(") :]}: pass').body[0].args
    kinds, out = inspect.Parameter, []
    first = len(arguments.args) - len(arguments.defaults)
    for i, argument in enumerate(arguments.args):
        out.append(
            kinds(
                argument.arg,
                kinds.POSITIONAL_OR_KEYWORD,
                default=value(arguments.defaults[i - first]) if i >= first else kinds.empty,
            )
        )
    if arguments.vararg:
        out.append(kinds(arguments.vararg.arg, kinds.VAR_POSITIONAL))
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults):
        out.append(kinds(argument.arg, kinds.KEYWORD_ONLY, default=value(default) if default else kinds.empty))
    if arguments.kwarg:
        out.append(kinds(arguments.kwarg.arg, kinds.VAR_KEYWORD))
    return inspect.Signature(out)


def value(node):
    """A default as a value where it is written as one, otherwise its text: a constant's name says nothing about it."""
    text = ast.unparse(node)
    try:
        return eval(text, {'__builtins__': {}})  # 2.0 ** 16, (0.9, 0.999), 'npu'; the file is this repository's own
    except (NameError, SyntaxError):
        return ast.unparse(node)


def schema_parameters(text):
    kind, depth, words, word = inspect.Parameter.POSITIONAL_OR_KEYWORD, 0, [], ''
    for letter in text[1 : text.index(') -> ')] + ',':
        depth += (letter in '([') - (letter in ')]')
        if letter == ',' and not depth:
            words, word = words + [word.strip()], ''
        else:
            word += letter
    for word in filter(None, words):
        if word == '*':
            kind = inspect.Parameter.KEYWORD_ONLY
            continue
        name, has_default, _ = word.split(' ')[-1].partition('=')
        yield inspect.Parameter(name, kind, default=None if has_default else inspect.Parameter.empty)


def misfit(text, positional, keywords, open_ended=False):
    """-> why a call with so many positional arguments and these keywords does not fit, or ''.

    open_ended: the call also has *arguments or **keywords, so that what is missing may be in them.
    """
    signature = parameters(text)
    try:
        bind = signature.bind_partial if open_ended else signature.bind
        bind(*[None] * positional, **dict.fromkeys(keywords))
    except TypeError as e:
        return f'{e}: it is {signature}'
    return ''
