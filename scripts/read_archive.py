#!/usr/bin/env python3
"""Restores the checkpoint that a tersor archive holds: docs/format.md as a program, with coded_blocks.py beside it. It shares
nothing with the library, holds everything in memory, and needs numpy and blake3.

    read_archive.py ARCHIVE -o OUT.safetensors     of a folder, all tensors in one file
"""

import argparse
import base64
import json
import math
import os
import re
import sys

import numpy as np
from blake3 import blake3
from coded_blocks import TRELLISES, Bytes, Refused, ceil, coded_block, fields, need

BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E4M3FNUZ": 8,
        "F8_E5M2FNUZ": 8, "F8_E8M0": 8, "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4, "C64": 64, "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U64": 64, "U32": 32, "U16": 16, "U8": 8, "BOOL": 8}
# Of the types that hold weights, the bits of the mantissa.
MANTISSA = {"F64": 52, "F32": 23, "F16": 10, "BF16": 7, "F8_E4M3": 3, "F8_E5M2": 2}
CHUNK, BLOCK, PIECE = 4 << 20, 1 << 20, 1_441_440


# Files


def digest(data):
    return blake3(data).digest()[:16]


def unbase64(text):
    data = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    need(base64.b64encode(data).decode().rstrip("=") == text, "a digest has bits beyond its bytes")
    return data


def parse_json(text):
    def once(pairs):
        need(len(dict(pairs)) == len(pairs), "a JSON key appears twice")
        return dict(pairs)

    return json.loads(text, object_pairs_hook=once)


def naturals(numbers, least, most):
    fit = type(numbers) is list and least <= len(numbers) <= most and all(type(n) is int and 0 <= n < 2**64 for n in numbers)
    need(fit, f"{numbers!r:.99}, expected {least} to {most} whole numbers")
    return numbers


def size_of(dtype, shape):
    bits = 1
    for factor in (*shape, BITS[dtype]):
        bits *= factor
        need(bits < 2**64, f"{dtype} {shape} is too large")
    need(bits % 8 == 0, f"{dtype} {shape} is not a whole number of bytes")
    return bits // 8


class File:
    """A safetensors file of an archive: its metadata, its manifest, and type, shape and bytes of what it stores, by position."""

    def __init__(self, path):
        with open(path, "rb") as file:
            raw = Bytes(file.read())
        length = int.from_bytes(raw.take(8), "little")
        need(length <= 100_000_000, f"the header claims {length} bytes")
        header, data = bytes(raw.take(length)), raw.left
        entries = parse_json(header.decode())
        self.metadata = entries.pop("__metadata__", {})
        need("tersor" in self.metadata, "no tersor manifest: this is not a tersor archive")
        manifest, sources = parse_json(self.metadata.pop("tersor")), self.metadata.pop("tersor.sources", None)
        need(manifest["version"] == 1, f"version is {manifest['version']!r}, expected 1")
        self.tied = manifest.pop("tied", None)
        need(set(manifest) == {"chunks", "header", "tensors", "version"}, "the manifest has other keys")
        need(self.tied != {}, "no ties")
        self.treated, self.size, self.stored = manifest["tensors"], len(data), {}
        lossy = [t for t in self.treated.values() if {"affine", "palette", "pruned", "pyramid", "vector"} & set(t)]
        need(sources is None or len(unbase64(sources)) == 8 * len(lossy), "not a fingerprint for every lossy tensor")

        before = '{"__metadata__":{"tersor":"{\\"chunks\\":\\"' + manifest["chunks"] + '\\",\\"header\\":\\"'
        end = len(before) + 22
        need(header[:end].decode() == before + manifest["header"], "the header does not start with its digests")
        need(digest(before.encode() + b"A" * 22 + header[end:]) == unbase64(manifest["header"]), "the header is damaged")
        chunks = unbase64(manifest["chunks"])
        need(len(chunks) == 16 * ceil(len(data), CHUNK), "not a digest for every chunk")
        for i in range(len(chunks) // 16):
            need(digest(data[i * CHUNK : (i + 1) * CHUNK]) == chunks[16 * i : 16 * i + 16], f"chunk {i} is damaged")

        for name, entry in sorted(entries.items(), key=lambda item: naturals(item[1]["data_offsets"], 2, 2)):
            need(set(entry) == {"dtype", "shape", "data_offsets"}, f"tensor {name!r}: its keys")
            need("\0" not in name, f"tensor {name!r:.99}: its name")
            (start, end), dtype, shape = entry["data_offsets"], entry["dtype"], naturals(entry["shape"], 0, 1 << 24)
            at = len(data) - len(raw.left)
            need(start == at and end == at + size_of(dtype, shape), f"tensor {name!r}: not the bytes that it should have")
            self.stored[name] = dtype, shape, raw.take(end - start)
        raw.end()

    def restore(self):
        """Name, type, shape and bytes of every tensor, in the order in which they are stored."""
        place, found = {name: i for i, name in enumerate(self.stored)}, {}
        marks = {}
        for name in self.tied or {}:
            need(self.stored.get(f"{name}.tied") == ("U8", [0], b""), f"tensor {name!r}: its mark")
            marks[name] = place.pop(f"{name}.tied")
        for name, about in self.treated.items():
            try:
                tensor = Treated(name, about, self.stored)
                found[min([place.pop(part) for part in tensor.parts])] = name, tensor.dtype, tensor.shape, tensor.restore()
            except Refused as error:
                raise Refused(f"tensor {name!r}: {error}") from None
        found.update({at: (name, *self.stored[name]) for name, at in place.items()})
        firsts = {tensor[0]: (at, tensor) for at, tensor in found.items()}
        for name, at in marks.items():
            first, tensor = firsts.get(self.tied[name], (at, None))
            need(first < at, f"tensor {name!r}: tied to no tensor before it")
            found[at] = name, *tensor[1:]
        return [found[at] for at in sorted(found)]


def is_index(name):
    return re.search(r"\.safetensors\.index\.(.+\.)?json$", name) is not None


def kind_of(name):
    """Of a file or an index its checkpoint, its variant ("" for none), and whether it is a numbered shard; None of others."""
    index = re.fullmatch(r"([^.]*)(?:\.(.*?))?\.safetensors\.index\.(?:(.+)\.)?json", name)
    if index:
        return index[1], index[3] or index[2] or "", False
    shard = re.fullmatch(r"([^.]*?)(?:\.(.*))?-\d+-of-\d+(?:\.(.*))?\.safetensors", name)
    if shard:
        return shard[1], shard[2] or shard[3] or "", True
    file = re.fullmatch(r"([^.]*)(?:\.(.*))?\.safetensors", name)
    return file and (file[1], file[2] or "", False)


def choose(names):
    """The index or file that a folder stands for."""
    names = [name for name in names if name[0] != "." and kind_of(name)]
    for usual in ("model.safetensors.index.json", "model.safetensors"):
        if usual in names:
            return usual
    names = [n for n in names if kind_of(n)[0] != "consolidated"] or names
    indices, files = [n for n in names if is_index(n)], [n for n in names if not is_index(n)]
    plain = [[n for n in kind if not kind_of(n)[1]] for kind in (indices, files)]
    if len(plain[0]) == 1 or not plain[0] and len(plain[1]) == 1:
        return (plain[0] or plain[1])[0]
    need(not plain[0], "the folder has several plain indices")
    variants = indices or [n for n in files if not plain[1] and not kind_of(n)[2]]
    variants = [n for n in variants if kind_of(n)[0] == "model"] or variants
    need(len({kind_of(n)[0] for n in variants}) == 1, "the folder has no file to begin with, or several")
    return variants[0]


def files_of(folder):
    return sorted(name for name in os.listdir(folder) if os.path.isfile(os.path.join(folder, name)))


def modules_of(folder):
    """The folders of a pipeline that hold weights; none of any other folder."""
    listed, files = [], files_of(folder)
    if "model_index.json" in files:
        with open(os.path.join(folder, "model_index.json"), encoding="utf-8") as file:
            listed = [name for name, what in json.load(file).items() if name[0] != "_" and isinstance(what, list)]
    elif "modules.json" in files:
        with open(os.path.join(folder, "modules.json"), encoding="utf-8") as file:
            listed = [module["path"] for module in json.load(file)]
    here = [(name, os.path.join(folder, name) if name else folder) for name in sorted(set(listed))]
    here = [(name, at) for name, at in here if os.path.isdir(at) and any(n[0] != "." and kind_of(n) for n in files_of(at))]
    return here if any(name for name, _ in here) else []


def read_archive(path):
    """Metadata and tensors of a file, of the shards that the index of a folder lists, or of the modules of a pipeline."""
    modules = modules_of(path) if os.path.isdir(path) else []
    if not modules:
        return read_module(path)
    metadata, tensors = {}, []
    for name, folder in modules:
        of_module, own = read_module(folder)
        metadata.update(of_module)
        tensors += [(f"{name}/{tensor[0]}" if name else tensor[0], *tensor[1:]) for tensor in own]
    return metadata, tensors


def read_module(path):
    if os.path.isdir(path):
        path = os.path.join(path, choose(files_of(path)))
    folder, shards, text, order = os.path.dirname(path), [os.path.basename(path)], None, {}
    if is_index(path):
        with open(path, encoding="utf-8", newline="") as file:
            text = file.read()
        order = parse_json(text)["weight_map"]
        shards = sorted(set(order.values()))
        plain = [name for name in shards if name.endswith(".safetensors") and name[0] != "." and not set(name) & set("/\\:\0")]
        need(shards == plain, "a shard that is not named by a plain name")
    files = [File(os.path.join(folder, shard)) for shard in shards]
    listed = sorted((name, shard) for file, shard in zip(files, shards) for name in file.stored)
    index = {"metadata": {"total_size": sum(file.size for file in files)}, "weight_map": order}
    need(text is None or order == dict(listed), "the index does not list what its shards hold")
    need(text in (None, json.dumps(index, indent=2, ensure_ascii=False) + "\n"), "the index is not that of its shards")
    tensors = [tensor for file in files for tensor in file.restore()]
    need(len(dict(listed)) == len(listed) and len({t[0] for t in tensors}) == len(tensors), "a tensor is stored twice")
    return {key: value for file in files for key, value in file.metadata.items()}, tensors


# Tensors


class Treated:
    """A tensor that the manifest describes: its matrix view, what its codes stand for, and the parts that store it."""

    def __init__(self, name, about, stored):
        self.name, self.stored, self.parts = name, stored, []
        keys = {"affine", "axis", "coded", "digest", "dtype", "max_rel_error", "palette", "pruned", "pyramid", "scales", "shape", "stack", "steps", "transform", "trellis", "vector"}
        flags = [about.get("axis", 1), *(about.get(key, True) for key in ("coded", "pruned", "stack"))]
        need(set(about) <= keys and None not in about.values() and json.dumps(flags) == "[1, true, true, true]", "what describes it")
        need(len(name.encode()) <= 1024, "its name is too long")
        self.dtype, self.shape, self.digest = about["dtype"], naturals(about["shape"], 0, 32), unbase64(about["digest"])
        # Values of other types are coded, if they are whole bytes, and nothing else.
        values = "coded" in about and not set(about) & {"affine", "palette", "pruned", "pyramid", "vector"}
        fits = self.dtype in MANTISSA or values and BITS.get(self.dtype, 1) % 8 == 0
        need(fits and size_of(self.dtype, self.shape) > 0, "its type or shape")
        self.axis, self.pruned, self.patterns = "axis" in about, "pruned" in about, f"<u{BITS[self.dtype] // 8}"
        # A stack is so many matrices, one below the other.
        need("stack" not in about or len(self.shape) == 3, "a stack of matrices of other than 3 dimensions")
        self.matrices, of_one = (self.shape[0], self.shape[1:]) if "stack" in about else (1, self.shape)
        rows = of_one[0] if len(of_one) > 1 else 1
        self.cols = math.prod(of_one) // rows
        if self.axis:
            rows, self.cols = self.cols, rows
        self.rows = self.matrices * rows
        # A block is so many rows, or a piece of one.
        self.height = max(1, BLOCK // (4 * ceil(self.cols * BITS[self.dtype], 32)))
        self.coded = self.part("coded", "U8", None) if "coded" in about else None
        self.read_transform(about.get("transform"), about.get("steps"))
        # Codes of one table along paths, which are coded.
        self.states = about.get("trellis")
        paths = type(self.states) is int and self.states in TRELLISES and self.coded is not None and about.get("palette", [0, 1])[1:] == [0]
        need(self.states is None or paths, "its trellis")
        self.read_method(*(about.get(key) for key in ("affine", "palette", "pyramid", "vector", "scales")))
        need(self.bits and not self.pruned or not self.transform, "a transform of no codes, or of what is pruned")
        self.find_body()

    def read_transform(self, transform, steps):
        """What is done to blocks of a row once their coefficients, which are F32, are there."""
        self.transform, self.quantized = None, "F32" if transform is not None else self.dtype
        if transform is None:
            return need(steps is None, "steps of no transform")
        need(type(transform) is list and len(transform) == 3 and transform[0] in ("hadamard", "dct"), "transform")
        block, seed = naturals(transform[1:], 2, 2)
        most = 256 if transform[0] == "hadamard" else 32
        need(block in (8, 16, 32, 64, 128, 256) and block <= most and self.cols % block == 0, "transform")
        need(self.cols <= PIECE or PIECE % block == 0, "transform of pieces")
        need(seed < 2**32 and (transform[0] == "hadamard" or seed == 0), "transform: its seed")
        if steps is not None:
            need(transform[0] == "dct" and all(1 <= q <= 255 for q in naturals(steps, block, block)), "steps")
        self.transform = *transform, steps or [1] * block

    def read_method(self, affine, palette, pyramid, vector, scales):
        """What codes stand for, if there are codes: those of a group share a scale or a table."""
        need([affine, palette, pyramid, vector].count(None) >= 3, "more than one of affine, palette, pyramid and vector")
        need(scales in (None, "BF16"), "the type of its scales")
        need(scales is None or affine is not None or vector is not None, "scales of no codes")
        self.symmetric, self.entries, self.bits, self.group, self.books, self.gains = False, None, 0, 1, None, None
        # So many codes for so many weights.
        self.codes, self.dim = 1, 1
        if affine is not None:
            self.bits, self.symmetric, group = naturals(affine, 3, 3)
            need(2 <= self.bits <= 8 and self.symmetric < 2 and (group == 0 or self.cols % group == 0), "affine")
            self.group, shape = (group, [self.rows, self.cols // group]) if group else (self.rows * self.cols, [1])
            dtype, pattern = (scales, "<u2") if scales else ("F32", "<u4")
            self.scales = widen(dtype, self.table("scales", dtype, pattern, shape))
            need(np.all(np.isfinite(self.scales) & (self.scales >= 0)), "a scale is negative, infinite or NaN")
            self.zero_points = self.table("zero_points", "U8", "u1", shape) if not self.symmetric else np.zeros_like(self.scales, "u1")
        elif palette is not None:
            k, rows = naturals(palette, 2, 2)
            need(1 <= k <= 256 and (rows == 0 or self.rows % rows == 0), "palette")
            self.bits, self.group = max(1, (k - 1).bit_length()), (rows or self.rows) * self.cols
            shape = [self.rows // (rows or self.rows), k]
            entries = widen(self.quantized, self.table("codebook", self.quantized, f"<u{BITS[self.quantized] // 8}", shape))
            need(np.all(np.isfinite(entries)), "its codebook holds an infinity or NaN")
            self.entries = narrow(self.quantized, entries).reshape(shape)
        elif pyramid is not None:
            self.dim, self.pulses, self.gain_bits = naturals(pyramid, 3, 3)
            need(4 <= self.dim <= 64 and self.dim % 4 == 0 and 1 <= self.pulses <= 127 and 1 <= self.gain_bits <= 10, "pyramid")
            need(self.cols % self.dim == 0 and self.cols <= PIECE and not self.pruned and not self.coded, "a pyramid of its rows")
            # V(n, k) = V(n-1, k) + V(n, k-1) + V(n-1, k-1).
            self.counts = [[1] + [0] * self.pulses]
            for _ in range(self.dim):
                above, row = self.counts[-1], [1]
                for k in range(self.pulses):
                    row.append(above[k + 1] + row[k] + above[k])
                self.counts.append(row)
            self.number_bits = (self.counts[-1][-1] - 1).bit_length()
            need(self.number_bits <= 120, "the numbers of its pyramid")
            self.bits, self.codes, self.group = 1, self.gain_bits + self.number_bits, self.dim
            self.gains = self.table("gains", "F32", "<f4", [1 << self.gain_bits])
            need(np.all(np.isfinite(self.gains) & (self.gains >= 0)), "a gain is negative, infinite or NaN")
        elif vector is not None:
            self.dim, k, spaces, self.stages, group = naturals(vector, 5, 5)
            need(1 <= self.dim <= 16 and 2 <= k <= 65536 and spaces > 0 and 1 <= self.stages <= 8 and not self.pruned, "vector")
            need(self.cols % (self.dim * spaces) == 0 and self.cols <= PIECE, "vectors of its rows")
            need(group == 0 or self.cols % group == 0 and group % self.dim == 0, "the group of its vectors")
            bits = (k - 1).bit_length()
            self.halves = 2 if bits > 8 else 1
            self.bits, self.codes = ceil(bits, self.halves), self.stages * self.halves
            self.group, shape = (group, [self.rows, self.cols // group]) if group else (self.rows * self.cols, [1])
            dtype, pattern = (scales, "<u2") if scales else ("F32", "<u4")
            self.scales = widen(dtype, self.table("scales", dtype, pattern, shape))
            need(np.all(np.isfinite(self.scales) & (self.scales >= 0)), "a scale is negative, infinite or NaN")
            shape = [spaces, self.stages, k, self.dim]
            self.books = self.table("codebook", "I16", "<i2", shape).reshape(shape)
            need(np.all(np.abs(self.books.astype("i4")) <= 2047), "a number of its codebooks is beyond 2047")

    def of_pyramid(self, bits):
        """The integers of a vector, from the bits of its gain and its number."""
        number, left, vector = sum(b << i for i, b in enumerate(bits[self.gain_bits :])), self.pulses, []
        need(number < self.counts[self.dim][left], "a number of no vector of its pyramid")
        for rest in reversed(range(self.dim)):
            value = 0
            while number >= self.counts[rest][left - abs(value)]:
                number -= self.counts[rest][left - abs(value)]
                value = -value if value > 0 else 1 - value
            left -= abs(value)
            vector.append(value)
        return vector

    def find_body(self):
        """What is read block by block."""
        words = lambda bits: [self.rows, ceil(self.cols // self.dim * self.codes * bits, 32)]
        if self.coded:
            self.body = self.coded
            self.lengths = iter(self.body.array("<u4", ceil(self.rows, self.height) * ceil(self.cols, PIECE)).tolist())
            return
        need(self.bits or self.pruned, "nothing was done to it")
        if self.pruned:
            self.mask = self.part("mask", "U32", [self.rows, ceil(self.cols, 32)])
        codes = "codes", "U32", None if self.pruned else words(self.bits)
        self.body = self.part(*codes) if self.bits else self.part("values", self.dtype, None)

    def part(self, ending, dtype, shape):
        """A component; of one dimension where no shape is known."""
        there, found, data = self.stored.get(f"{self.name}.{ending}", (None, [], None))
        need(there == dtype and (len(found) == 1 if shape is None else found == shape), f"{ending} is not as it should be")
        self.parts.append(f"{self.name}.{ending}")
        return Bytes(data)

    def table(self, ending, dtype, read_as, shape):
        return (self.coded or self.part(ending, dtype, shape)).array(read_as, math.prod(shape))

    def restore(self):
        """The bytes of the tensor: block by block of the matrix view, against their digest, then in the order of storage."""
        restored, digests = [], []
        for row in range(0, self.rows, self.height):
            for col in range(0, self.cols, PIECE):
                height, width = min(self.height, self.rows - row), min(PIECE, self.cols - col)
                survives, stored, in_table = self.block(height, width)
                at, block = np.flatnonzero(survives), np.zeros(height * width, f"<u{BITS[self.quantized] // 8}")
                if self.dim > 1 or self.books is not None:
                    at = np.arange(height * width)
                group = (row * self.cols + col + at) // self.group
                block[at] = self.weights(stored, group, in_table) if self.bits else stored
                if self.transform:
                    block = narrow(self.dtype, untransform(block, *self.transform))
                restored.append(block)
                digests.append(digest(block.tobytes()))
        self.body.end()
        need(digest(b"".join(digests)) == self.digest, "it does not restore to its digest")
        matrix = np.concatenate(restored)
        return (matrix.reshape(self.matrices, -1, self.cols).swapaxes(1, 2) if self.axis else matrix).tobytes()

    def block(self, height, width):
        """Of the next block, which weights survive, their codes or patterns, and whether each code must have an entry."""
        if self.coded:
            element = self.bits or (BITS[self.dtype] // 8, MANTISSA.get(self.dtype))
            count = height * width // self.dim * self.codes
            return coded_block(Bytes(self.body.take(next(self.lengths))), count, self.pruned, element, self.states)
        survives = np.ones((height, width // self.dim * self.codes), "u1")
        if self.pruned:
            survives = np.stack([fields(self.mask.take(4 * ceil(width, 32)), 1, width) for _ in range(height)])
        counts = np.count_nonzero(survives, axis=1).tolist()
        if not self.bits:
            return survives, self.body.array(self.patterns, sum(counts)), True
        rows = [fields(self.body.take(4 * ceil(count * self.bits, 32)), self.bits, count) for count in counts]
        return survives, np.concatenate(rows), True

    def weights(self, codes, group, in_table):
        """The patterns that codes stand for, each in its group."""
        if self.gains is not None:
            values = [value for bits in codes.reshape(-1, self.codes).tolist() for value in self.of_pyramid(bits)]
            gains = [sum(b << i for i, b in enumerate(bits[: self.gain_bits])) for bits in codes.reshape(-1, self.codes).tolist()]
            return narrow(self.quantized, np.array(values, "<f4") * np.repeat(self.gains[gains], self.dim))
        if self.books is not None:
            # Of each vector its stages; of each of these the low half first.
            codes = codes.reshape(-1, self.stages, self.halves).astype("i8")
            codes = codes[:, :, 0] | (codes[:, :, 1] << self.bits if self.halves == 2 else 0)
            need(codes.max(initial=0) < self.books.shape[2], "a code is beyond its codebook")
            # Blocks begin with a row, and so with the first sub-space.
            space = np.arange(len(codes)) % len(self.books)
            sums = sum(self.books[space, stage, codes[:, stage]].astype("i4") for stage in range(self.stages))
            return narrow(self.quantized, sums.reshape(-1).astype("<f4") * self.scales[group])
        if self.entries is not None:
            k = self.entries.shape[1]
            need(not in_table or codes.max(initial=0) < k, "a code is beyond its table")
            return self.entries[group, np.minimum(codes, k - 1)]
        steps = codes.astype("i4") - self.zero_points[group]
        if self.symmetric:
            steps -= (steps >> self.bits - 1) << self.bits
        return narrow(self.quantized, steps.astype("<f4") * self.scales[group])


def untransform(coefficients, kind, block, seed, steps):
    """Weights, as F32, from the patterns of coefficients, block by block: in whole numbers up to the last step."""
    bits = coefficients.astype("i8").reshape(-1, block)
    exponent = bits >> 23 & 255
    field = np.maximum(exponent, 1)
    largest = field.max(axis=1, keepdims=True)
    shift = np.minimum(largest - field + 2, 31)
    n = (bits & 0x7FFFFF) + ((exponent > 0).astype("i8") << 23) + (1 << shift - 1) >> shift
    n = np.where(bits >> 31, -n, n)
    down, least, up, i = (max(steps) - 1).bit_length(), min(steps), 0, np.arange(block)
    while least << up < 1 << down:
        up += 1
    n = n * np.array(steps) + (1 << down) // 2 >> down
    factor = 2.0**30 * (1 << down) / (least << up)
    if kind == "hadamard":
        matrix = np.array([[(-1) ** (a & b).bit_count() for b in range(block)] for a in range(block)])
        y, factor = n @ matrix * np.array([signs(seed, at) for at in range(block)]), factor / math.sqrt(block)
    else:
        angle = np.pi * np.outer(i, 2 * i + 1) / (2 * block)
        matrix = 65536 * np.sqrt(np.where(i, 2, 1) / block)[:, None] * np.cos(angle)
        y = n @ np.rint(matrix).astype("i8") + 32768 >> 16
    z = y * round(factor) + (1 << 31) >> 32
    weights = np.ldexp(z.astype("<f8"), largest - 146 + up).ravel()
    weights[np.abs(weights) < 2.0**-126] = 0
    return np.clip(weights, -float(np.finfo("<f4").max), float(np.finfo("<f4").max)).astype("<f4")


def signs(seed, at):
    """The sign of weight `at` of a block: a bit of a number of splitmix64."""
    z = (seed + (at // 64 + 1) * 0x9E3779B97F4A7C15) % 2**64
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
    return 1 - 2 * ((z ^ z >> 31) >> at % 64 & 1)


def values_of(dtype):
    """The F32 value of every pattern of a type of at most 16 bits, NaN for those that are not finite."""
    p = np.arange(1 << BITS[dtype], dtype="<u4")
    if dtype == "F8_E4M3":  # An F16 with an exponent that is 8 less; only 0x7f and 0xff are not finite.
        values = ((p & 0x80) << 8 | (p & 0x7F) << 7).astype("<u2").view("<f2").astype("<f4") * 256
        values[0x7F::0x80] = np.nan
        return values
    values = (p << 16).view("<f4") if dtype == "BF16" else (p << 16 - BITS[dtype]).astype("<u2").view("<f2").astype("<f4")
    return np.where(np.isfinite(values), values, np.nan)


def widen(dtype, patterns):
    """Floats of any type as F32, those of F64 rounded."""
    return values_of(dtype)[patterns] if BITS[dtype] <= 16 else patterns.view(f"<f{BITS[dtype] // 8}").astype("<f4")


def narrow(dtype, values):
    """The patterns of F32 values in a type: the nearest, of two the even one, and at most the largest finite one."""
    width, limit = BITS[dtype] // 8, np.finfo("<f4").max
    if width > 2:
        return np.clip(values, -limit, limit).astype(f"<f{width}").view(f"<u{width}")
    grid = values_of(dtype)[: 1 << BITS[dtype] - 1].astype("<f8")
    grid = grid[np.isfinite(grid)]
    lower, upper = (np.searchsorted((grid[:-1] + grid[1:]) / 2, np.abs(values), side) for side in ("left", "right"))
    return (np.where(lower % 2, upper, lower) | np.signbit(values).astype("i8") << BITS[dtype] - 1).astype(f"<u{width}")


# What is restored


def write(path, metadata, tensors):
    """Writes a safetensors file, the same bytes as `tersor decompress`."""
    header, at = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}, 0
    for name, dtype, shape, data in tensors:
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with open(f"{path}.partial", "wb") as file:
        file.writelines([len(text).to_bytes(8, "little"), text, *(data for *_, data in tensors)])
    os.replace(f"{path}.partial", path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive")
    parser.add_argument("-o", "--output", required=True)
    options = parser.parse_args()
    np.seterr(over="ignore", under="ignore")
    try:
        metadata, tensors = read_archive(options.archive)
    except Exception as error:  # Nobody can foresee what bytes do to a program: whatever it is, the archive is refused.
        sys.exit(f"{options.archive}: {error if isinstance(error, Refused) else repr(error)}")
    write(options.output, metadata, tensors)


if __name__ == "__main__":
    main()
