// libge_runner.so: nothing of CANN's. Its constructor runs before libtorch_npu.so's own initialisers.
//
// torch_npu 2.10 to 2.12 wants the CPU build of torch. The CUDA build, which is the only one on PyPI, has registered
// options of its allocator under names that torch_npu registers too, and that ends the process. There is no CUDA device
// here, so the names are taken back.
#if __has_include(<c10/core/AllocatorConfig.h>)
#include <c10/core/AllocatorConfig.h>

__attribute__((constructor)) static void forget() {
    c10::CachingAllocator::AcceleratorAllocatorConfig::getMutableKeys() = {
        "large_segment_size_mb",        "max_split_size_mb",        "max_non_split_rounding_mb",
        "garbage_collection_threshold", "roundup_power2_divisions", "expandable_segments",
        "pinned_use_background_threads"};
}
#endif
