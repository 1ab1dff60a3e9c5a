"""Settings of the whole device. They have no effect here; torch_npu._sim.options shows what was asked for."""

import warnings

from .. import _sim

__all__ = ['set_option', 'set_compile_mode', 'set_mm_bmm_format_nd', 'get_mm_bmm_format_nd', 'is_jit_compile_false']

ALLOWED = {
    'ACL_OP_SELECT_IMPL_MODE': ['high_performance', 'high_precision'],
    'ACL_PRECISION_MODE': ['must_keep_origin_dtype', 'allow_mix_precision', 'force_fp16', 'allow_fp32_to_fp16'],
    'ACL_OP_DEBUG_LEVEL': ['0', '1', '2', '3', '4'],
    'ACL_OP_COMPILER_CACHE_MODE': ['disable', 'enable', 'force'],
    'MM_BMM_ND_ENABLE': ['enable', 'disable'],
    'ALLOW_MATMUL_HF32': ['enable', 'disable'],
    'ALLOW_CONV_HF32': ['enable', 'disable'],
}
DEPRECATED = ('ACL_OP_SELECT_IMPL_MODE', 'ACL_OPTYPELIST_FOR_IMPLMODE')
WORDS = {True: 'enable', False: 'disable'}


def set_option(option):
    if not isinstance(option, dict):
        raise TypeError('npu option must be a dict.')
    for name, value in option.items():
        if name in ALLOWED and str(value) not in ALLOWED[name]:
            raise ValueError('value of %s should be in %s but got %s' % (name, ALLOWED[name], value))
        if name in DEPRECATED:
            warnings.warn('%s will be deprecated in future version.' % name)
        _sim.options[name] = str(value)


def set_compile_mode(jit_compile=False):
    _sim.options['jitCompile'] = WORDS[bool(jit_compile)]


def is_jit_compile_false():
    return _sim.options.get('jitCompile') == 'disable'


def set_mm_bmm_format_nd(is_nd=True):
    _sim.options['MM_BMM_ND_ENABLE'] = WORDS[bool(is_nd)]


def get_mm_bmm_format_nd():
    return _sim.options.get('MM_BMM_ND_ENABLE', 'enable') == 'enable'


class _npuConfig:
    def __setattr__(self, name, value):  # can be written but not read, as on Ascend
        if name == 'allow_internal_format':
            _sim.options['ALLOW_INTERNAL_FORMAT'] = WORDS[bool(value)]


class _allowHF32:
    def __setattr__(self, name, value):
        if name == 'allow_hf32':
            if not isinstance(value, bool):  # torch_npu >= 2.7
                raise TypeError('allow_hf32 must be a bool')
            _sim.options[self._option] = WORDS[value]

    def __getattr__(self, name):
        if name == 'allow_hf32':
            return _sim.options.get(self._option, self._default) == 'enable'
        return None


class _allowHF32Matmul(_allowHF32):
    _option, _default = 'ALLOW_MATMUL_HF32', 'disable'


class _allowHF32Conv(_allowHF32):
    _option, _default = 'ALLOW_CONV_HF32', 'enable'
