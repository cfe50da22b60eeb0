#!/usr/bin/env bash
# LLVM takes the dot products of VNNI apart again: a row of vpdpwssd intrinsics becomes vpmaddwd and vpaddd.
#
# Expected: `sum = _mm512_dpwssd_epi32(sum, x, c)`, four times in a row, is four vpdpwssd: it is the instruction that the intrinsic
#           is named after and the function is compiled for, and one operation instead of two.
# Happens:  the first is a vpdpwssd; the others become a vpmaddwd and a vpaddd each, for no processor in particular and for Intel's
#           that have the instruction (sapphirerapids too); only for znver4 and znver5 all stay. Code that asks the machine at run
#           time, and so names no processor, always gets the pairs. Where a loop is bound by how many operations it has they cost:
#           finding the nearest of 256 vectors of 8 numbers took 1.3 times as long on a core of an Intel Xeon, of 2 numbers too.
# Versions: clang 20.1.2 of ziglang 0.15.2 (PyPI); rustc 1.95.0 with LLVM 22.1.2 does the same.
# Seen:     2026-12-01.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

python3 -m venv tools
tools/bin/pip install --quiet ziglang==0.15.2
cat >dots.c <<'EOF'
#include <immintrin.h>

__attribute__((target("avx512f,avx512bw,avx512vnni,evex512")))
__m512i dots(__m512i sum, const __m512i *x, const __m512i *c) {
    sum = _mm512_dpwssd_epi32(sum, x[0], c[0]);
    sum = _mm512_dpwssd_epi32(sum, x[1], c[1]);
    sum = _mm512_dpwssd_epi32(sum, x[2], c[2]);
    return _mm512_dpwssd_epi32(sum, x[3], c[3]);
}
EOF
compile() { # TARGET -> how many of each instruction
    export ZIG_LOCAL_CACHE_DIR=$work/cache ZIG_GLOBAL_CACHE_DIR=$work/cache
    tools/bin/python -m ziglang cc -target x86_64-linux-musl -mcpu="$1" -O2 -S dots.c -o "$1.s" 2>/dev/null
    for name in vpdpwssd vpmaddwd vpaddd; do printf '%s %s, ' "$(grep -cE "^\s$name\s" "$1.s" || true)" "$name"; done
}
tools/bin/python -m ziglang cc --version | head -n 1
plain=$(compile x86_64)
intel=$(compile sapphirerapids)
amd=$(compile znver4)
echo "no processor named: $plain"
echo "sapphirerapids:     $intel"
echo "znver4:             $amd"
pairs="1 vpdpwssd, 3 vpmaddwd, 3 vpaddd, "
if [ "$plain" != "$pairs" ] || [ "$intel" != "$pairs" ] || [ "$amd" != "4 vpdpwssd, 0 vpmaddwd, 0 vpaddd, " ]; then
    echo "CHANGED: the dot products are compiled otherwise" >&2
    exit 1
fi
echo "As seen before: three of four dot products are taken apart."
