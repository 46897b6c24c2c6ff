"""ggml on the shapes of heed_bench. Importing this module needs numpy and the libraries of llama-cpp-python.

Rows are f16, as llama.cpp stores them by default: token-major, its own layout, and head-major. A call is
ggml_flash_attn_ext with an f16 mask and sums in float32, as llama.cpp makes it.
"""
import ctypes
import importlib.util
import itertools
import pathlib
import sys
import time

import numpy

from failed import Failed

cold_bytes = 160 << 20
permitted = 0.5  # error of an answer, relative, in the 2-norm: sums of values in f16 lose 3 to 33 % at 32768 keys
f32, f16, sums_in_f32 = 0, 1, 10  # values of ggml_type and ggml_prec


class InitParams(ctypes.Structure):
    _fields_ = [("mem_size", ctypes.c_size_t), ("mem_buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool)]


def load():
    """The two libraries of ggml that llama-cpp-python brings along, with the functions that are called declared."""
    package = importlib.util.find_spec("llama_cpp")
    if package is None:
        raise ImportError("No module named 'llama_cpp'")
    folder, suffix = pathlib.Path(package.origin).parent / "lib", ".dylib" if sys.platform == "darwin" else ".so"
    try:
        base, cpu = (ctypes.CDLL(str(folder / f"libggml-{part}{suffix}"), mode=ctypes.RTLD_GLOBAL)
                     for part in ("base", "cpu"))
    except OSError as error:
        raise ImportError(str(error)) from error
    pointer, number, integer, size = ctypes.c_void_p, ctypes.c_float, ctypes.c_int64, ctypes.c_size_t
    for library, name, result, arguments in [
            (base, "ggml_version", ctypes.c_char_p, []),
            (base, "ggml_init", pointer, [InitParams]),
            (base, "ggml_free", None, [pointer]),
            (base, "ggml_get_data", pointer, [pointer]),
            (base, "ggml_new_tensor_3d", pointer, [pointer, ctypes.c_int, integer, integer, integer]),
            (base, "ggml_permute", pointer, [pointer, pointer] + [ctypes.c_int] * 4),
            (base, "ggml_view_3d", pointer, [pointer, pointer, integer, integer, integer, size, size, size]),
            (base, "ggml_flash_attn_ext", pointer, [pointer] * 5 + [number] * 3),
            (base, "ggml_flash_attn_ext_set_prec", None, [pointer, ctypes.c_int]),
            (base, "ggml_new_graph_custom", pointer, [pointer, size, ctypes.c_bool]),
            (base, "ggml_build_forward_expand", None, [pointer, pointer]),
            (base, "ggml_backend_graph_compute", ctypes.c_int, [pointer, pointer]),
            (cpu, "ggml_backend_cpu_init", pointer, []),
            (cpu, "ggml_backend_cpu_set_n_threads", None, [pointer, ctypes.c_int])]:
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return base, cpu


base, cpu = load()
version = f"ggml {base.ggml_version().decode()} of llama-cpp-python"
backend = cpu.ggml_backend_cpu_init()


class Rows:
    """q, keys and values of one layer. Layers are made when a layout is timed, and only those of the last are kept."""

    def __init__(self, work):
        self.work = work
        random = numpy.random.default_rng(1)
        self.q = random.standard_normal((work.heads, work.queries, work.key_width), numpy.float32)

        def rows(width):
            return random.standard_normal((work.kv_heads, work.keys, width), numpy.float32).astype(numpy.float16)
        self.k = rows(work.key_width)
        self.v = self.k[..., :work.value_width] if work.value_in_key else rows(work.value_width)
        query, key = numpy.ogrid[:work.queries, :work.keys]
        self.mask = numpy.where(key <= query + work.keys - work.queries, 0, -numpy.inf).astype(numpy.float16)
        self.graphs = None

    def graphs_of(self, token_major):
        if self.graphs is None or self.graphs.token_major != token_major:
            self.graphs = None  # frees the other layout first
            self.graphs = Graphs(self, token_major)
        return self.graphs

    def error(self, out):
        """Of an answer [queries][heads][value_width]: of the first, the middle and the last head against float64."""
        work, worst = self.work, 0.0
        for head in {0, work.heads // 2, work.heads - 1}:
            group = head * work.kv_heads // work.heads
            scores = self.q[head].astype(float) @ self.k[group].astype(float).T * work.scale + self.mask
            weights = numpy.exp(scores - scores.max(-1, keepdims=True))
            right = weights @ self.v[group].astype(float) / weights.sum(-1, keepdims=True)
            relative = float(numpy.linalg.norm(out[:, head] - right) / numpy.linalg.norm(right))
            worst = relative if not relative <= worst else worst  # NaN stays
        return worst


class Graphs:
    """Layers with the same rows, each in memory of its own, and graphs over them: one for a step of a model, otherwise
    one for each layer."""

    def __init__(self, rows, token_major):
        work = rows.work
        self.token_major, self.layers = token_major, work.layers or cold_bytes // (2 * work.layer_numbers) + 1
        out_numbers = work.heads * work.queries * work.value_width
        nodes = 16 * self.layers + 16
        memory = self.layers * (2 * work.layer_numbers + 4 * out_numbers) + rows.q.nbytes + rows.mask.nbytes
        self.context = base.ggml_init(InitParams(memory + nodes * 1024 + (1 << 24), None, False))
        q, mask = self.tensor(f32, rows.q), self.tensor(f16, rows.mask[None])
        self.graphs = []
        for layer in range(self.layers):
            k = self.rows(rows.k)
            v = self.part(k, work) if work.value_in_key else self.rows(rows.v)
            out = base.ggml_flash_attn_ext(self.context, q, k, v, mask, work.scale, 0.0, 0.0)
            base.ggml_flash_attn_ext_set_prec(out, sums_in_f32)
            if layer == 0:
                self.out = out
            if layer == 0 or not work.layers:
                self.graphs.append(base.ggml_new_graph_custom(self.context, nodes if work.layers else 16, False))
            base.ggml_build_forward_expand(self.graphs[-1], out)

    def tensor(self, kind, array):
        """A copy of an array [a][b][c] of which c is contiguous."""
        array = numpy.ascontiguousarray(array)
        made = base.ggml_new_tensor_3d(self.context, kind, *array.shape[::-1])
        ctypes.memmove(base.ggml_get_data(made), array.ctypes.data, array.nbytes)
        return made

    def rows(self, array):
        """Rows [heads][keys][width] for ggml_flash_attn_ext, in the layout."""
        if not self.token_major:
            return self.tensor(f16, array)
        return base.ggml_permute(self.context, self.tensor(f16, array.transpose(1, 0, 2)), 0, 2, 1, 3)

    def part(self, k, work):
        """The first numbers of each key, of the one KV head: both layouts are the same."""
        row = 2 * work.key_width
        return base.ggml_view_3d(self.context, k, work.value_width, work.keys, work.kv_heads, row, row * work.keys, 0)

    def compute(self, graph):
        if base.ggml_backend_graph_compute(backend, graph) != 0:
            raise Failed("ggml_backend_graph_compute failed")

    def answer(self, work):
        shape = (work.queries, work.heads, work.value_width)
        at = ctypes.cast(base.ggml_get_data(self.out), ctypes.POINTER(ctypes.c_float))
        return numpy.ctypeslib.as_array(at, shape).astype(float)

    def __del__(self):
        base.ggml_free(self.context)


class Ggml:
    """ggml with rows in one layout."""

    def __init__(self, name, token_major):
        self.name, self.token_major = name, token_major
        self.error = 0.0  # the largest of all answers

    def can(self, work):
        return self.token_major or work.kv_heads > 1  # with one KV head the layouts are the same

    def seconds(self, work, rows, threads, min_time):
        """Mean time of a layer's call over a turn, as heed_bench has it. Raises Failed."""
        graphs = rows.graphs_of(self.token_major)
        cpu.ggml_backend_cpu_set_n_threads(backend, threads)
        graphs.compute(graphs.graphs[0])
        error = rows.error(graphs.answer(work))
        if not error <= permitted:
            raise Failed(f"{self.name}, {work.title}: relative error {error:.3g}, must be at most {permitted}")
        self.error = max(self.error, error)
        calls, start = 0, time.perf_counter()
        for graph in itertools.cycle(graphs.graphs[1:] + graphs.graphs[:1]):
            graphs.compute(graph)
            calls += work.layers or 1
            elapsed = time.perf_counter() - start
            if elapsed >= min_time and calls >= 3:
                return elapsed / calls


peers = [Ggml("ggml f16 token-major", True), Ggml("ggml f16 head-major", False)]
