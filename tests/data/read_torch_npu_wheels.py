"""Writes torch_npu_api.json: the public names of some torch_npu releases and their signatures.

    pip download --no-deps --only-binary=:all: torch_npu==2.13.0      # and the others; 14 to 44 MB each
    python tests/data/read_torch_npu_wheels.py torch_npu-*.whl

The wheels are read as zip files: their Python by its syntax tree, and the operators' schemas as text in libtorch_npu.so.
So neither CANN nor the torch that a wheel belongs to has to be there.
"""

import ast
import copy
import json
import re
import sys
import zipfile
from pathlib import Path

NAMESPACES = [
    'torch_npu',
    'torch_npu.npu',
    'torch_npu.npu.amp',
    'torch_npu.npu.amp.autocast_mode',
    'torch_npu.npu.amp.grad_scaler',
    'torch_npu.npu.autocast_utils',
    'torch_npu.npu.memory',
    'torch_npu.npu.npu_config',
    'torch_npu.npu.random',
    'torch_npu.npu.streams',
    'torch_npu.npu.utils',
    'torch_npu.optim',
    'torch_npu.profiler',
    'torch_npu.contrib',
    'torch_npu.contrib.function',
    'torch_npu.contrib.module',
    'torch_npu.distributed',
]
WANTED_PRIVATE = {'_ExperimentalConfig'}
NOISE = {'ErrCode', 'pta_error', 'prof_error', 'dist_error', 'PathManager', 'HAS_NUMPY'}
NATIVE_MEMBERS = {
    'torch_npu.profiler.ProfilerActivity': ['CPU', 'NPU']
}  # an enum of C++, seen in the profiler's sources
NATIVE_BASES = {'torch_npu._C._NPUStreamBase': 'torch.Stream'}
# operators that no vision training here could want keep the file from being readable
UNWANTED_OPS = re.compile(
    r'_backward|_grad\b|\.|quant|moe|attention_v|infer|all_reduce|reduce_scatter|all_gather|alltoall|rope|'
    r'rotated|nms|iou|bbox|roi|lstm|gru|yolo|distribute|kv_|mla_|sparse|hans_|anchor|^_'
)


class Wheel:
    def __init__(self, path):
        self.zip = zipfile.ZipFile(path)
        self.version = Path(path).name.split('-')[1]
        self.files = set(self.zip.namelist())
        self.trees, self.bound = {}, {}

    def file_of(self, module):
        stem = module.replace('.', '/')
        return next((name for name in (stem + '/__init__.py', stem + '.py') if name in self.files), None)

    def tree(self, module):
        if module not in self.trees:
            self.trees[module] = ast.parse(self.zip.read(self.file_of(module)))
        return self.trees[module]

    def statements(self, module):
        """The module's top-level statements, also those under if, try, for and with."""
        todo = list(self.tree(module).body)
        while todo:
            node = todo.pop(0)
            yield node
            if isinstance(node, (ast.If, ast.Try, ast.For, ast.With)):
                todo += [n for field in ('body', 'orelse', 'finalbody') for n in getattr(node, field, [])]

    def bindings(self, module):
        """-> {name: (kind, where, node)} that the module has after its import."""
        if module in self.bound:
            return self.bound[module]  # perhaps half done, as in Python, when modules import each other
        found = self.bound[module] = {}
        package = self.file_of(module).endswith('__init__.py')
        for node in self.statements(module):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                found[node.name] = ('def' if isinstance(node, ast.FunctionDef) else 'class', module, node)
            elif isinstance(node, (ast.Assign, ast.AnnAssign)):
                for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                    if isinstance(target, ast.Name):
                        found[target.id] = ('object', module, node.value)
            elif isinstance(node, ast.ImportFrom):
                origin = self.origin(module, package, node)
                if origin.split('.')[0] == 'torch_npu':
                    self.import_from(found, origin, node)
        if package:
            prefix = self.file_of(module)[: -len('__init__.py')]
            for name in {
                f[len(prefix) :].split('/')[0] for f in self.files if f.startswith(prefix) and f.endswith('.py')
            }:
                if name != '__init__.py':
                    found.setdefault(name[:-3] if name.endswith('.py') else name, ('module', module, None))
        for name in self.exported(module):
            found.setdefault(name, ('native', module, None))
        return found

    @staticmethod
    def origin(module, package, node):
        if not node.level:
            return node.module
        base = module.split('.')
        base = base[: len(base) - node.level + package]
        return '.'.join(base + ([node.module] if node.module else []))

    def import_from(self, found, origin, node):
        known = self.bindings(origin) if self.file_of(origin) else {}
        for alias in node.names:
            if alias.name == '*':
                found.update({name: known[name] for name in self.exported(origin) or known if name in known})
            elif self.file_of(origin + '.' + alias.name):
                found[alias.asname or alias.name] = ('module', origin, None)
            else:
                found[alias.asname or alias.name] = known.get(alias.name, ('native', origin, None))

    def exported(self, module):
        for node in self.statements(module):
            if isinstance(node, ast.Assign) and getattr(node.targets[0], 'id', '') == '__all__':
                return ast.literal_eval(node.value)
        return []

    # ------------------------------------------------------------ what a name is

    def class_of(self, expression, module):
        """-> (module, ClassDef) of a class named in a module, or None when it is not this wheel's."""
        *place, name = ast.unparse(expression).split('.')
        if place:
            package = module if self.file_of(module).endswith('__init__.py') else module.rpartition('.')[0]
            module = '.'.join([package, *place])
        if not self.file_of(module):
            return None
        kind, where, node = self.bindings(module).get(name, (None, None, None))
        return (where, node) if kind == 'class' else None

    def members(self, module, node):
        """-> {name: signature or 'object'} of a class and its bases in the wheel, and the names of its other bases."""
        found, outside = {}, []
        for base in node.bases:
            known = self.class_of(base, module)
            if known:
                inherited, others = self.members(*known)
                found.update(inherited)
                outside += others
            else:
                outside.append(self.outside(base, module))
        for item in node.body:
            if isinstance(item, ast.FunctionDef):
                found[item.name] = signature(item, method=True)
            elif isinstance(item, ast.Assign):
                found.update({t.id: 'object' for t in item.targets if isinstance(t, ast.Name)})
        return found, [name for name in outside if name]

    def outside(self, base, module):
        """The torch name of a base class that is not the wheel's own."""
        text = ast.unparse(base)
        if text in NATIVE_BASES:
            return NATIVE_BASES[text]
        for node in self.statements(module):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split('.')[0] == 'torch':
                for alias in node.names:
                    if (alias.asname or alias.name) == text:
                        return node.module + '.' + alias.name
        return text if text.startswith('torch.') else ''

    def describe(self, dotted, kind, where, node):
        """Yields (dotted name, signature) of a binding and of what hangs on it."""
        if kind == 'def':
            yield dotted, signature(node)
        elif kind == 'class':
            members, outside = self.members(where, node)
            made = members.get('__init__') or members.get('__new__') or '()'
            if '__init__' not in members and '__new__' not in members and outside:
                made = '(*args, **kwargs)'
            yield dotted, 'class%s%s' % (made, ''.join(' of ' + name for name in outside[:1]))
            for name, text in members.items():
                if not name.startswith('_'):
                    yield dotted + '.' + name, text
        else:
            yield dotted, 'module' if kind == 'module' else 'object'
            if kind == 'object' and isinstance(node, ast.Call):
                for name in self.settings(node, where):
                    yield dotted + '.' + name, 'object'
            for name in NATIVE_MEMBERS.get(dotted, ()):
                yield dotted + '.' + name, 'object'

    def settings(self, call, module):
        """The names that the __setattr__ of an object's class compares with: torch.npu.config.allow_internal_format."""
        known = self.class_of(call.func, module)
        for item in known[1].body if known else ():
            if isinstance(item, ast.FunctionDef) and item.name == '__setattr__':
                for node in ast.walk(item):
                    if isinstance(node, ast.Compare) and getattr(node.left, 'id', '') == 'name':
                        for other in node.comparators:
                            if isinstance(other, ast.Constant):
                                yield other.value

    def python(self):
        for namespace in NAMESPACES:
            if not self.file_of(namespace):
                continue
            for name, binding in self.bindings(namespace).items():
                if name not in NOISE and (not name.startswith('_') or name in WANTED_PRIVATE):
                    yield from self.describe(namespace + '.' + name, *binding)
        yield 'torch_npu.__version__', 'object'

    def ops(self):
        library = self.zip.read('torch_npu/lib/libtorch_npu.so')
        for text in set(
            re.findall(rb'(?<=\0)(\w+(?:\.\w+)?\([^\0()]*(?:\([^\0()]*\)[^\0()]*)*\) -> [^\0]+)(?=\0)', library)
        ):
            text = text.decode('ascii', 'replace')
            if re.search('npu|fast_gelu', text.split('(')[0]) and not UNWANTED_OPS.search(text.split('(')[0]):
                yield text.split('(')[0], text[text.index('(') :]


def signature(node, method=False):
    """The text of a function's parameters, without self, cls and annotations."""
    arguments = copy.deepcopy(node.args)
    static = any(getattr(d, 'id', '') == 'staticmethod' for d in node.decorator_list)
    if method and not static:
        del (arguments.posonlyargs or arguments.args)[:1]
    for argument in [*arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]:
        if argument is not None:
            argument.annotation = None
    return '(%s)' % ast.unparse(arguments)


def main(paths):
    wheels = sorted(map(Wheel, paths), key=lambda w: [int(n) for n in re.findall(r'\d+', w.version)])
    table = {'python': {}, 'ops': {}}
    for wheel in wheels:
        for part, found in (('python', wheel.python()), ('ops', wheel.ops())):
            for name, text in found:
                seen = table[part].setdefault(name, {}).setdefault(text, [])
                if wheel.version not in seen:
                    seen.append(wheel.version)
    every = [wheel.version for wheel in wheels]
    lines = []
    for part in table:
        rows = [
            '  %s: %s' % (json.dumps(name), json.dumps({t: 'all' if v == every else v for t, v in texts.items()}))
            for name, texts in sorted(table[part].items())
        ]
        lines.append(' "%s": {\n%s\n }' % (part, ',\n'.join(rows)))
    header = ' "source": "the wheels on PyPI, by tests/data/read_torch_npu_wheels.py",\n "versions": %s' % json.dumps(
        every
    )
    Path(__file__).with_name('torch_npu_api.json').write_text('{\n%s,\n%s\n}\n' % (header, ',\n'.join(lines)))


if __name__ == '__main__':
    main(sys.argv[1:])
