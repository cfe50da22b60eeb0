#!/usr/bin/env python3
"""Times ONNX Runtime's MatMulInteger, the peer of tersor's int8 product on the CPU.

    python3 -m pip install --target peers onnxruntime onnx numpy
    PYTHONPATH=peers python3 scripts/peers_matmul_i8.py [M N K ...]

The weights are a constant of the model, so that ONNX Runtime packs them once, before the clock starts. Every line of output:
activations, M, N, K, threads, median and least time in ms, and 2 M N K over the median in GOP/s. The first product of each
model is compared with NumPy's.
"""

import sys
import time

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

SHAPES = [(1024, 1024, 1024), (128, 384, 384), (128, 1536, 384), (128, 384, 1536), (1, 1024, 1024), (8, 1024, 1024)]
ACTIVATIONS = {"u8": (np.uint8, TensorProto.UINT8, 0, 256), "s8": (np.int8, TensorProto.INT8, -128, 128)}


def session(m, n, k, activation, threads, weights):
    """A model of one node."""
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "w"], ["sums"])],
        "matmul_i8",
        [helper.make_tensor_value_info("a", activation, [m, k])],
        [helper.make_tensor_value_info("sums", TensorProto.INT32, [m, n])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def times(run, seconds=1.0, least=15):
    """Sorted times of many runs, in seconds."""
    for _ in range(3):
        run()
    taken, started = [], time.perf_counter()
    while len(taken) < least or (time.perf_counter() - started < seconds and len(taken) < 20_000):
        before = time.perf_counter()
        run()
        taken.append(time.perf_counter() - before)
    return sorted(taken)


def main():
    numbers = [int(word) for word in sys.argv[1:]]
    shapes = list(zip(numbers[0::3], numbers[1::3], numbers[2::3])) or SHAPES
    random = np.random.default_rng(1)
    print(f"onnxruntime {ort.__version__}")
    for m, n, k in shapes:
        weights = random.integers(-127, 128, (k, n), dtype=np.int8)
        for name, (dtype, onnx_type, lowest, beyond) in ACTIVATIONS.items():
            a = random.integers(lowest, beyond, (m, k)).astype(dtype)
            for threads in (1, 2):
                model = session(m, n, k, onnx_type, threads, weights)
                # The output stays in place, as tersor's caller could keep it.
                sums = np.empty((m, n), np.int32)
                binding = model.io_binding()
                binding.bind_cpu_input("a", a)
                binding.bind_output("sums", "cpu", 0, np.int32, [m, n], sums.ctypes.data)
                model.run_with_iobinding(binding)
                rows = slice(0, min(m, 16))
                assert (sums[rows] == a[rows].astype(np.int32) @ weights.astype(np.int32)).all()
                taken = times(lambda: model.run_with_iobinding(binding))
                median, best = taken[len(taken) // 2], taken[0]
                print(
                    f"{name} {m:5} {n:5} {k:5}  threads {threads}  median {median * 1e3:8.4f} ms"
                    f"  least {best * 1e3:8.4f} ms  {2e-9 * m * n * k / median:8.1f} GOP/s",
                    flush=True,
                )


if __name__ == "__main__":
    main()
