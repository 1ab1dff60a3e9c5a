"""What the project takes from torch_npu, torch.npu and apex exists in every supported release, with those arguments.

Read from the syntax tree, so that code which no test machine can run is compared too. A value is followed from where it
is bound (an import, an assignment, an attribute of self, a function's result) to where it is used.
"""

import ast
import functools
import textwrap

import ascend_api
import pytest

from helpers import FOLDERS, TOP, VAN, in_folder

FACTORIES = {'import_npu': 'torch_npu.npu', 'import_apex': 'apex.amp'}  # of common/accelerator.py
ROOTS = ('torch_npu', 'apex')


def is_class(dotted):
    return any(ascend_api.lookup(dotted, version).startswith('class') for version in ascend_api.versions(dotted))


class Names(ast.NodeVisitor):
    """One file: what its names stand for, where they are guarded, and what it uses of them."""

    def __init__(self, tree, results):
        self.results = results  # function or property: what it returns, over all files
        self.attributes = {}  # name X of self.X: what was assigned to it
        self.scopes = [{}]  # local names
        self.functions = []  # the functions around the current node
        self.used = []  # (dotted, line, guarded, call or None)
        self.tree = tree

    # ------------------------------------------------------------ what an expression is

    def meaning(self, node):
        """-> the dotted name that an expression stands for (a class also for its instance), or None."""
        if isinstance(node, ast.Name):
            return next((scope[node.id] for scope in reversed(self.scopes) if node.id in scope), None)
        if isinstance(node, ast.Attribute):
            return self.attribute(node)
        if isinstance(node, ast.Call):
            return self.result(node)
        if isinstance(node, ast.IfExp):
            return self.meaning(node.body) or self.meaning(node.orelse)
        if isinstance(node, ast.BoolOp):
            return next(filter(None, map(self.meaning, node.values)), None)
        return None

    def attribute(self, node):
        owner = self.meaning(node.value)
        if owner == 'torch':
            return {'npu': 'torch_npu.npu'}.get(node.attr)
        if owner:
            return owner + '.' + node.attr
        if isinstance(node.value, ast.Name) and node.value.id in ('self', 'cls'):
            return self.attributes.get(node.attr)
        return None

    def result(self, call):
        function = call.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, 'id', '')
        arguments = [a.value for a in call.args if isinstance(a, ast.Constant)]
        if name == 'getattr' and len(call.args) > 1 and isinstance(call.args[1], ast.Constant):
            return self.attribute(ast.Attribute(call.args[0], call.args[1].value))
        if name in ('import_module', '__import__') and arguments and str(arguments[0]).split('.')[0] in ROOTS:
            return arguments[0]
        meaning = self.meaning(function)
        if meaning and meaning.split('.')[0] in ROOTS:
            return meaning if is_class(meaning) else None
        own = not isinstance(function, ast.Attribute) or getattr(function.value, 'id', '') in ('self', 'cls')
        return self.results.get(name) if own else FACTORIES.get(name)

    # ---------------------------------------------------------------------- binding

    def bind(self, target, dotted):
        if dotted and isinstance(target, ast.Name):
            self.scopes[-1][target.id] = dotted
        elif dotted and isinstance(target, ast.Attribute) and getattr(target.value, 'id', '') == 'self':
            self.attributes[target.attr] = dotted

    def visit_Import(self, node):
        for alias in node.names:
            root = alias.name.split('.')[0]
            if root in ROOTS:
                self.use(alias.name, node)
            if root in ROOTS or alias.name == 'torch':
                self.scopes[-1][alias.asname or root] = alias.name if alias.asname else root

    def visit_ImportFrom(self, node):
        if node.level or (node.module or '').split('.')[0] not in ROOTS + ('torch',):
            return
        for alias in node.names:
            dotted = node.module + '.' + alias.name
            if node.module == 'torch':
                dotted = {'npu': 'torch_npu.npu'}.get(alias.name)
            elif node.module.split('.')[0] in ROOTS and alias.name != '*':
                self.use(dotted, node)
            if dotted and dotted.split('.')[0] in ROOTS:
                self.scopes[-1][alias.asname or alias.name] = dotted

    def visit_Assign(self, node):
        self.generic_visit(node)
        for target in node.targets:
            several = isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple)
            for name, value in zip(target.elts, node.value.elts) if several else [(target, node.value)]:
                self.bind(name, self.meaning(value))

    def visit_With(self, node):
        for item in node.items:
            self.visit(item)
            if item.optional_vars is not None:
                self.bind(item.optional_vars, self.meaning(item.context_expr))
        for statement in node.body:
            self.visit(statement)

    def visit_Return(self, node):
        self.generic_visit(node)
        meaning = node.value and self.meaning(node.value)
        if meaning and self.functions:
            self.results[self.functions[-1].name] = meaning
            if any(getattr(d, 'id', '') == 'property' for d in self.functions[-1].decorator_list):
                self.attributes[self.functions[-1].name] = meaning

    def visit_FunctionDef(self, node):
        for decorator in node.decorator_list:
            self.visit(decorator)
        for default in node.args.defaults + [d for d in node.args.kw_defaults if d is not None]:
            self.visit(default)
        self.scopes.append({})
        self.functions.append(node)
        for statement in node.body:
            self.visit(statement)
        self.functions.pop()
        self.scopes.pop()

    # -------------------------------------------------------------------------- use

    def use(self, dotted, node, call=None):
        self.used.append((dotted, node.lineno, self.guarded(dotted), call))

    def guarded(self, dotted):
        """Whether the function (or the file, outside of one) asks hasattr or getattr of that name, or of its owner."""
        around = self.functions[0] if self.functions else self.tree
        asked = set()
        for node in ast.walk(around):
            if isinstance(node, ast.Call) and getattr(node.func, 'id', '') in ('hasattr', 'getattr'):
                if node.func.id == 'getattr' and len(node.args) < 3:
                    continue
                if len(node.args) > 1 and isinstance(node.args[1], ast.Constant):
                    asked.add(self.attribute(ast.Attribute(node.args[0], node.args[1].value)))
        return any(name and (dotted + '.').startswith(name + '.') for name in asked)

    def visit_Attribute(self, node):
        dotted = self.attribute(node)
        own = isinstance(node.value, ast.Name) and node.value.id in ('self', 'cls')
        if dotted and dotted.split('.')[0] in ROOTS and not own:  # self.npu is this project's name, what follows is not
            self.use(dotted, node)
        self.generic_visit(node)

    def visit_Call(self, node):
        self.generic_visit(node)
        name = getattr(node.func, 'id', '')
        if name in ('hasattr', 'getattr'):
            dotted = self.result(ast.Call(ast.Name('getattr'), node.args, []))
            if dotted and dotted.split('.')[0] in ROOTS and self.meaning(node.args[0]) != 'torch':
                self.use(dotted, node)
            return
        dotted = self.meaning(node.func)
        if dotted and dotted.split('.')[0] in ROOTS:
            self.use(dotted, node, node)

    def collect(self):
        """-> self.used. Thrice: what is bound below its first use, or returned through functions, is known then."""
        for _ in range(3):
            self.used, self.scopes = [], [{}]
            self.visit(self.tree)
        return self.used


def problems(source, results=None):
    """-> [(line, sentence)] of what is wrong in a file's text"""
    used = Names(ast.parse(source), dict(FACTORIES, **results or {})).collect()
    reasons = {(line, objection(dotted, guarded, call)): None for dotted, line, guarded, call in used}
    return sorted((line, reason) for line, reason in reasons if reason)


def objection(dotted, guarded, call):
    """-> why a name, or this call of it, is not all right in all releases; '' when it is."""
    texts = {version: ascend_api.lookup(dotted, version) for version in ascend_api.versions(dotted)}
    absent = [version for version, text in texts.items() if not text]
    package = dotted.split('.')[0]
    if len(absent) == len(texts):
        return f'{dotted} is in no known {package}'
    if absent and not guarded:
        return f'{dotted} is not in {package} {", ".join(absent)}: ask hasattr first'
    for version, text in texts.items():
        reason = misfit(call, text) if call is not None and '(' in text else ''
        if reason:
            return f'{dotted} of {package} {version}: {reason}'
    return ''


def misfit(call, text):
    positional = sum(not isinstance(a, ast.Starred) for a in call.args)
    keywords = [k.arg for k in call.keywords if k.arg]
    return ascend_api.misfit(
        text, positional, keywords, positional < len(call.args) or len(keywords) < len(call.keywords)
    )


def shipped():
    """The project's Python: common/ once, the folders without their copies of it, and ci/."""
    for top in ['common', 'ci', *FOLDERS]:
        for path in sorted((TOP / top).rglob('*.py')):
            if path.parent.name == 'new_model':  # templates
                continue
            parts = path.relative_to(TOP).parts
            if parts[1] not in ('common', 'output') and 'output' not in parts:
                yield path


def test_the_project_uses_what_there_is():
    results = {}
    for path in shipped():  # what functions return is known to all files
        Names(ast.parse(path.read_text()), results).collect()
    wrong = [
        f'{path.relative_to(TOP)}:{line}: {sentence}'
        for path in shipped()
        for line, sentence in problems(path.read_text(), results)
    ]
    assert not wrong, '\n'.join(wrong)


def missing(names):
    """In a child: -> those of the dotted names that the installed torch_npu has not"""
    import torch_npu

    found = []
    for name in names:
        try:
            functools.reduce(getattr, name.split('.')[1:], torch_npu)
        except AttributeError:
            found.append(name)
    return found


def test_the_installed_torch_npu_has_every_name(npu):
    """The real import, not the tables: all that is named, guarded or not, but for settings, which can only be written."""
    used = Names(ast.parse((TOP / 'common' / 'accelerator.py').read_text()), dict(FACTORIES)).collect()
    names = sorted({dotted for dotted, *_ in used if dotted.startswith('torch_npu.') and '.allow_' not in dotted})
    assert len(names) > 20 and in_folder(VAN, missing, names, **npu) == []


def test_something_is_compared():
    """accelerator.py's calls are found: a walker that sees nothing would pass everything."""
    used = Names(ast.parse((TOP / 'common' / 'accelerator.py').read_text()), dict(FACTORIES)).collect()
    names = {dotted for dotted, *_ in used}
    assert {
        'torch_npu.npu.set_device',
        'torch_npu.npu.Event.record',
        'torch_npu.npu.current_stream',
        'torch_npu.npu.amp.GradScaler',
    } <= names
    assert any(call for *_, call in used)


RIGHT = {
    'a plain call': 'import torch\ntorch.npu.set_device(0)',
    'an alias': 'import torch_npu as vendor\nvendor.npu.synchronize(device=0)',
    'a name from it': 'from torch_npu.contrib import transfer_to_npu',
    'a setting': 'import torch\ntorch.npu.config.allow_internal_format = False\ntorch.npu.conv.allow_hf32 = True',
    'guarded by hasattr': """
        import torch
        def queue(level):
            if hasattr(torch.npu, 'set_task_queue_enable'):
                torch.npu.set_task_queue_enable(level)""",
    'guarded by getattr': """
        def cube(npu=None):
            npu = import_npu()
            return getattr(npu.matmul, 'cube_math_type', None)""",
    'keywords': 'import torch_npu\ntorch_npu.npu.amp.GradScaler(init_scale=2., dynamic=False)',
    'an inherited method': 'import torch_npu\ns = torch_npu.npu.amp.GradScaler()\ns.get_scale()',
    'an operator': 'import torch_npu\ntorch_npu.npu_fusion_attention(q, k, v, 8, "BNSD", scale=.1, keep_prob=1.)[0]',
    'an open call': 'import torch_npu\ntorch_npu.npu.amp.GradScaler(**options)',
    'apex': 'amp = import_apex()\namp.initialize(m, o, opt_level="O2", loss_scale=128., combine_grad=True)',
    'a profiler': """
        import torch_npu
        with torch_npu.profiler.profile(schedule=torch_npu.profiler.schedule(wait=1, active=2),
                                        activities=[torch_npu.profiler.ProfilerActivity.NPU]) as p:
            p.step()""",
}
WRONG = {
    'a name': ('import torch\ntorch.npu.set_devise(0)', 'torch_npu.npu.set_devise is in no known torch_npu'),
    'a keyword': ('import torch\ntorch.npu.set_compile_mode(jit=False)', "unexpected keyword argument 'jit'"),
    'too many': ('import torch\ntorch.npu.empty_cache(0)', 'too many positional arguments'),
    'too few': ('import torch\ntorch.npu.set_device()', "missing a required argument: 'device'"),
    'gone': ('import torch\ntorch.npu.global_step_inc()', 'global_step_inc is in no known torch_npu'),
    'new only': (
        'import torch\ntorch.npu.set_task_queue_enable(2)',
        'is not in torch_npu 2.1.0.post8: ask hasattr first',
    ),
    'another name guarded': (
        """
        import torch
        def queue():
            if hasattr(torch.npu, 'set_compile_mode'):
                torch.npu.set_task_queue_enable(2)""",
        'ask hasattr first',
    ),
    'asked, and nowhere': ('import torch\nhasattr(torch.npu, "set_compile_modes")', 'is in no known torch_npu'),
    'a setting': (
        'import torch\ntorch.npu.config.allow_internal_formats = False',
        'allow_internal_formats is in no known',
    ),
    'through self': (
        """
        class Npu:
            def use(self):
                self.npu.Event(timing=True)
            def __init__(self):
                self.npu = import_npu()""",
        "unexpected keyword argument 'timing'",
    ),
    'on an instance': ('import torch\nevent = torch.npu.Event()\nevent.elapsed()', 'Event.elapsed is in no known'),
    'an import': ('from torch_npu.optim import NpuFusedAdan', 'NpuFusedAdan is in no known'),
    'an enum': ('from torch_npu import profiler\nprofiler.ProfilerLevel.Level7', 'Level7 is in no known'),
    'an operator': ('import torch_npu\ntorch_npu.npu_fusion_attention(q, k, v, 8, "BNSD", causal=True)', "'causal'"),
    'no operator': ('import torch_npu\ntorch_npu.npu_drop_path(x, .1)', 'npu_drop_path is in no known'),
    'apex': ('from apex import amp\namp.initialize(m, o, level="O2")', "unexpected keyword argument 'level'"),
    'apex by self': (
        """
        class Apex:
            def __init__(self):
                self.amp = accelerators.import_apex()
            def step(self):
                self.amp.scale_losses()""",
        'scale_losses is in no known apex',
    ),
}


@pytest.mark.parametrize('case', RIGHT)
def test_right_code_passes(case):
    assert problems(textwrap.dedent(RIGHT[case])) == []


@pytest.mark.parametrize('case', WRONG)
def test_wrong_code_is_found(case):
    source, words = WRONG[case]
    found = problems(textwrap.dedent(source))
    assert len(found) == 1 and words in found[0][1], found
