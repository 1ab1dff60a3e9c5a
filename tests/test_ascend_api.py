"""What the project takes from torch_npu, torch.npu and apex exists there, in every supported release, with those arguments.

Read from the syntax tree, so that code which no test machine can run is compared too. A value is followed from where it is
bound (an import, an assignment, an attribute of self, a function's result or its parameter) to where it is used.
"""
import ast
import textwrap

import ascend_api
import pytest
from conftest import FOLDERS, TOP

# Only in the vendor's torch 1.5 and torch_npu 1.8 (ASCEND.md, section 10), so in no release that can be read here: what the
# code may use under hasattr or getattr. An entry that the code no longer uses fails too.
OLD_LINE = {}

FACTORIES = {'import_npu': 'torch_npu.npu', 'import_apex': 'apex.amp'}     # of common/accelerator.py
ROOTS = ('torch_npu', 'apex')


def is_class(dotted):
    return any(ascend_api.lookup(dotted, version).startswith('class') for version in ascend_api.versions(dotted))


class Names(ast.NodeVisitor):
    """One file: what its names stand for, where they are guarded, and what it uses of them."""

    def __init__(self, tree, results):
        self.results = results          # function or property: what it returns, over all files
        self.parameters = {}            # (function, parameter): what a call of it passes
        self.attributes = {}            # name X of self.X: what was assigned to it
        self.scopes = [{}]              # local names
        self.functions = []             # the functions around the current node
        self.used = []                  # (dotted, line, guarded, call or None)
        self.tree = tree
        self.defined = {}               # name: the functions of this file that have it
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                self.defined.setdefault(node.name, []).append(node)

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
        return self.results.get(name)

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
            self.bind(target, self.meaning(node.value))

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
        names = [a.arg for a in node.args.args + node.args.kwonlyargs]
        self.scopes.append({n: self.parameters[node.name, n] for n in names if (node.name, n) in self.parameters})
        self.functions.append(node)
        for statement in node.body:
            self.visit(statement)
        self.functions.pop()
        self.scopes.pop()

    # -------------------------------------------------------------------------- use

    def use(self, dotted, node, call=None):
        self.used.append((dotted, node.lineno, self.guarded(dotted), call))

    def guarded(self, dotted):
        """Whether the function (or the file, outside of one) asks hasattr or getattr of that very name, or of its owner."""
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
        if dotted and dotted.split('.')[0] in ROOTS and not own:    # self.npu is this project's name, what follows is not
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
        self.note_arguments(node)

    def note_arguments(self, call):
        """A function of this file that is given a vendor's module: its parameter is that module."""
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, 'id', '')
        for function in self.defined.get(name, ()):
            names = [a.arg for a in function.args.args]
            names = names[1:] if names[:1] in (['self'], ['cls']) else names
            given = list(zip(names, call.args)) + [(k.arg, k.value) for k in call.keywords]
            for parameter, value in given:
                meaning = self.meaning(value)
                if meaning and meaning.split('.')[0] in ROOTS:
                    self.parameters[name, parameter] = meaning

    def collect(self):
        """-> self.used. Thrice: what is bound below its first use, or passed from function to function, is known then."""
        for _ in range(3):
            self.used, self.scopes = [], [{}]
            self.visit(self.tree)
        return self.used


def problems(source, results=None, old_line=None):
    """-> [(line, sentence)] of what is wrong in a file's text, and the names of `old_line` that it uses."""
    found, old = {}, set()
    for dotted, line, guarded, call in Names(ast.parse(source), dict(FACTORIES, **results or {})).collect():
        if dotted in (old_line or {}):
            old.add(dotted)
            if not guarded:
                found[line, '%s is of the old line only: ask hasattr first' % dotted] = None
            continue
        reason = objection(dotted, guarded, call)
        if reason:
            found[line, reason] = None
    return sorted(found), old


def objection(dotted, guarded, call):
    """-> why a name, or this call of it, is not all right in all releases; '' when it is."""
    texts = {version: ascend_api.lookup(dotted, version) for version in ascend_api.versions(dotted)}
    absent = [version for version, text in texts.items() if not text]
    package = dotted.split('.')[0]
    if len(absent) == len(texts):
        return '%s is in no known %s' % (dotted, package)
    if absent and not guarded:
        return '%s is not in %s %s: ask hasattr first' % (dotted, package, ', '.join(absent))
    for version, text in texts.items():
        reason = misfit(call, text) if call is not None and '(' in text else ''
        if reason:
            return '%s of %s %s: %s' % (dotted, package, version, reason)
    return ''


def misfit(call, text):
    positional = sum(not isinstance(a, ast.Starred) for a in call.args)
    keywords = [k.arg for k in call.keywords if k.arg]
    return ascend_api.misfit(text, positional, keywords, positional < len(call.args) or len(keywords) < len(call.keywords))


def shipped():
    """The project's Python: common/ once, the folders without their copies of it, and ci/."""
    for top in ['common', 'ci', *FOLDERS]:
        for path in sorted((TOP / top).rglob('*.py')):
            parts = path.relative_to(TOP).parts
            if parts[1] not in ('common', 'output') and 'output' not in parts:
                yield path


def test_the_project_uses_what_there_is():
    results = {}
    for path in shipped():      # what functions return is known to all files
        Names(ast.parse(path.read_text()), results).collect()
    wrong, old = [], set()
    for path in shipped():
        found, used = problems(path.read_text(), results, OLD_LINE)
        wrong += ['%s:%d: %s' % (path.relative_to(TOP), line, sentence) for line, sentence in found]
        old |= used
    assert not wrong, '\n'.join(wrong)
    assert old == set(OLD_LINE), 'entries of OLD_LINE that nothing uses: %s' % (set(OLD_LINE) - old)


def test_something_is_compared():
    """accelerator.py's calls are found: a walker that sees nothing would pass everything."""
    used = Names(ast.parse((TOP / 'common' / 'accelerator.py').read_text()), dict(FACTORIES)).collect()
    names = {dotted for dotted, *_ in used}
    assert {'torch_npu.npu.set_device', 'torch_npu.npu.Event.record', 'torch_npu.npu.current_stream',
            'torch_npu.npu.amp.GradScaler'} <= names
    assert any(call for *_, call in used)


RIGHT = {
    'a plain call': 'import torch\ntorch.npu.set_device(0)',
    'an alias': 'import torch_npu as vendor\nvendor.npu.synchronize(device=0)',
    'a name from it': 'from torch_npu.contrib import transfer_to_npu',
    'a setting': 'import torch\ntorch.npu.config.allow_internal_format = False\ntorch.npu.conv.allow_hf32 = True',
    'guarded by hasattr': '''
        import torch
        def queue(level):
            if hasattr(torch.npu, 'set_task_queue_enable'):
                torch.npu.set_task_queue_enable(level)''',
    'guarded by getattr': '''
        def cube(npu=None):
            npu = import_npu()
            return getattr(npu.matmul, 'cube_math_type', None)''',
    'keywords': 'import torch_npu\ntorch_npu.npu.amp.GradScaler(init_scale=2., dynamic=False)',
    'an inherited method': 'import torch_npu\ns = torch_npu.npu.amp.GradScaler()\ns.get_scale()',
    'an operator': 'import torch_npu\ntorch_npu.npu_fusion_attention(q, k, v, 8, "BNSD", scale=.1, keep_prob=1.)[0]',
    'an open call': 'import torch_npu\ntorch_npu.npu.amp.GradScaler(**options)',
    'apex': 'amp = import_apex()\namp.initialize(m, o, opt_level="O2", loss_scale=128., combine_grad=True)',
    'a profiler': '''
        import torch_npu
        with torch_npu.profiler.profile(schedule=torch_npu.profiler.schedule(wait=1, active=2),
                                        activities=[torch_npu.profiler.ProfilerActivity.NPU]) as p:
            p.step()''',
}
WRONG = {
    'a name': ('import torch\ntorch.npu.set_devise(0)', 'torch_npu.npu.set_devise is in no known torch_npu'),
    'a keyword': ('import torch\ntorch.npu.set_compile_mode(jit=False)', "unexpected keyword argument 'jit'"),
    'too many': ('import torch\ntorch.npu.empty_cache(0)', 'too many positional arguments'),
    'too few': ('import torch\ntorch.npu.set_device()', "missing a required argument: 'device'"),
    'gone': ('import torch\ntorch.npu.global_step_inc()', 'global_step_inc is in no known torch_npu'),
    'new only': ('import torch\ntorch.npu.set_task_queue_enable(2)', 'is not in torch_npu 2.1.0.post8: ask hasattr first'),
    'another name guarded': ('''
        import torch
        def queue():
            if hasattr(torch.npu, 'set_compile_mode'):
                torch.npu.set_task_queue_enable(2)''', 'ask hasattr first'),
    'asked, and nowhere': ('import torch\nhasattr(torch.npu, "set_compile_modes")', 'is in no known torch_npu'),
    'a setting': ('import torch\ntorch.npu.config.allow_internal_formats = False', 'allow_internal_formats is in no known'),
    'through self': ('''
        class Npu:
            def use(self):
                self.npu.Event(timing=True)
            def __init__(self):
                self.npu = import_npu()''', "unexpected keyword argument 'timing'"),
    'on an instance': ('import torch\nevent = torch.npu.Event()\nevent.elapsed()', 'Event.elapsed is in no known'),
    'through a parameter': ('''
        def overlap(backend):
            backend.Streem()
        overlap(import_npu())''', 'Streem is in no known'),
    'an import': ('from torch_npu.optim import NpuFusedAdan', 'NpuFusedAdan is in no known'),
    'an enum': ('from torch_npu import profiler\nprofiler.ProfilerLevel.Level7', 'Level7 is in no known'),
    'an operator': ('import torch_npu\ntorch_npu.npu_fusion_attention(q, k, v, 8, "BNSD", causal=True)', "'causal'"),
    'no operator': ('import torch_npu\ntorch_npu.npu_drop_path(x, .1)', 'npu_drop_path is in no known'),
    'apex': ('from apex import amp\namp.initialize(m, o, level="O2")', "unexpected keyword argument 'level'"),
    'apex by self': ('''
        class Apex:
            def __init__(self):
                self.amp = accelerators.import_apex()
            def step(self):
                self.amp.scale_losses()''', 'scale_losses is in no known apex'),
}


@pytest.mark.parametrize('case', RIGHT)
def test_right_code_passes(case):
    assert problems(textwrap.dedent(RIGHT[case]))[0] == []


@pytest.mark.parametrize('case', WRONG)
def test_wrong_code_is_found(case):
    source, words = WRONG[case]
    found, _ = problems(textwrap.dedent(source))
    assert len(found) == 1 and words in found[0][1], found


def test_the_old_line_needs_a_guard():
    old = {'torch_npu.npu.global_step_inc': 'counts steps for the compiler of torch 1.5 and 1.8'}
    bare, guarded = 'torch.npu.global_step_inc()', 'if hasattr(torch.npu, "global_step_inc"): torch.npu.global_step_inc()'
    assert 'ask hasattr first' in problems('import torch\n' + bare, old_line=old)[0][0][1]
    assert problems('import torch\n' + guarded, old_line=old) == ([], set(old))
