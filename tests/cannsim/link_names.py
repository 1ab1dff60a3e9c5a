"""C sources, made at build time, for names that the wheel wants and that our sources do not define: calling one says its name.

Not every name of CANN may be there: torch_npu asks for some to learn which CANN it is on.
"""

import re
import subprocess

# torch_npu asks whether CANN has it, and takes aclnnTopk otherwise
ABSENT = {'aclnnTopkV2'}
PREFIXES = ('acl', 'rt', 'Hccl', 'Msprof')  # CANN's, among the names that a library of the wheel leaves undefined


def symbols(path, *options):
    """-> the names that nm prints for a library or an object."""
    out = subprocess.run(['nm', *options, path], capture_output=True, text=True, check=True).stdout
    return {line.split()[-1].split('@')[0] for line in out.splitlines() if not line.endswith(':')}


def defined(objects):
    return set().union(*(symbols(path, '--extern-only', '--defined-only') for path in objects))


def link_source(libraries, objects):
    """What the dynamic linker looks for when it loads the wheel's libraries."""
    needed = set().union(*(symbols(path, '-D', '--undefined-only') for path in libraries))
    missing = sorted(name for name in needed - defined(objects) if name.startswith(PREFIXES))
    lines = [f'int {name}(void) {{ return cannsim_not_simulated("{name}"); }}' for name in missing]
    return '\n'.join(['int cannsim_not_simulated(const char*);', *lines, ''])


def aclnn_source(library, objects):
    """Every aclnn function whose name stands in libtorch_npu.so; ours come first, as these are weak."""
    found = {name.decode() for name in re.findall(rb'(?<=\0)(aclnn[A-Z]\w+)(?=\0)', library.read_bytes())}
    names = {name.removesuffix('GetWorkspaceSize') for name in found} - ABSENT
    have = defined(objects)
    lines = [
        f'__attribute__((weak, visibility("default"))) int {name}{part}(void) {{ return cannsim_unknown("{name}"); }}'
        for name in sorted(names)
        for part in ('GetWorkspaceSize', '')
        if name + part not in have
    ]
    return '\n'.join(['int cannsim_unknown(const char*);', *lines, ''])
