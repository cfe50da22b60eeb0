"""The coded blocks of a tersor archive, as docs/format.md describes them: bits, entropy coders, lossless floats, retrieval
structures. For read_archive.py; shares nothing with the library.
"""

import numpy as np

NONE = 0xFFFF  # where a retrieval structure has no result
STEP = 0x9E3779B9


class Refused(Exception):
    """What is wrong with an archive."""


def need(holds, why):
    if not holds:
        raise Refused(why)


def ceil(a, b):
    return -(-a // b)


class Bytes:
    """Bytes that are taken from the front, and never more than there are; or bits, of each byte the lowest first."""

    def __init__(self, data):
        self.left, self.word, self.held = memoryview(data), 0, 0

    def take(self, count):
        need(count <= len(self.left), "the bytes end too early")
        part, self.left = self.left[:count], self.left[count:]
        return part

    def rest(self):
        return self.take(len(self.left))

    def array(self, dtype, count):
        return np.frombuffer(self.take(count * np.dtype(dtype).itemsize), dtype)

    def bits(self, count):
        while self.held < count:
            self.word, self.held = self.word | self.take(1)[0] << self.held, self.held + 8
        value, self.word, self.held = self.word & (1 << count) - 1, self.word >> count, self.held - count
        return value

    def end_of_bits(self):
        need(self.word == 0, "padding is not zero")
        self.held = 0

    def number(self):
        """LEB128: groups of seven bits, low ones first, at most five and no more than needed."""
        groups = [self.take(1)[0]]
        while groups[-1] >= 128:
            groups += self.take(1)
        need(len(groups) == 1 or len(groups) <= 5 and groups[-1] > 0, "a number is too long")
        return sum((group & 127) << 7 * i for i, group in enumerate(groups))

    def end(self):
        need(not self.left, "bytes after the end")


def fields(data, bits, count):
    """So many fields of 1 to 16 bits, the first lowest, from data that has nothing but zeros after them."""
    flags = np.unpackbits(np.frombuffer(data, "u1"), bitorder="little")
    need(len(flags) >= bits * count and not flags[bits * count :].any(), "padding is not zero")
    packed = np.packbits(flags[: bits * count].reshape(count, bits), axis=1, bitorder="little")
    return packed[:, 0] if bits <= 8 else packed[:, 0] | packed[:, 1].astype("u2") << 8


def coded_block(data, count, pruned, element, states=None):
    """Of so many weights, from exactly these bytes: which survive, their codes or patterns, whether each code must have an entry.
    `element` is how many bits a code has, or (width in bytes, bits of mantissa) of a float, None of what is none. Codes are paths
    through a trellis of so many states, if any."""
    coded = type(element) is int
    values = lambda count: planes(data, element[0], count) if element[1] is None else floats(data, *element, count)
    decode = lambda count: stream(data, element, count, states) if coded else values(count)
    if not pruned:
        return np.ones(count, "u1"), decode(count), True
    kind, index = data.take(1)[0], Bytes(data.take(data.number()))
    if kind in (16, 17):
        data.end()
        need(coded and not states, "a structure that holds values, or paths")
        results = (ribbon if kind == 16 else bloomier)(index, element, count)
        survives = results >> element == 0
        return survives, results[survives].astype("u1"), False
    if kind == 0:
        survives = fields(stream(index, 8, ceil(count, 8)), 1, count)
    else:
        symbols = index.number()
        need(2 <= kind <= 8 and symbols <= count, "an index that is not known, or has more gaps than weights")
        gaps, filler = stream(index, kind, symbols).astype("i8"), (1 << kind) - 1
        ends, survives = np.cumsum(gaps + (gaps < filler)), np.zeros(count, "u1")
        need(symbols == 0 or gaps[-1] < filler and ends[-1] <= count, "gaps beyond the end")
        survives[ends[gaps < filler] - 1] = 1
    return survives, decode(int(np.count_nonzero(survives))), True


def stream(data, bits, count, states=None):
    """So many symbols of so many bits from exactly these bytes; along paths through a trellis, if it has states."""
    form = data.take(1)[0]
    need(form == 3 if states else form < 3, "a coder that is not known here")
    if form == 3:
        symbols = trellis(data, count, states)
    elif form == 0:
        symbols = fields(data.take(ceil(count * bits, 8)), bits, count)
    else:
        symbols = (huffman if form == 1 else rans)(data, count)
    data.end()
    need(symbols.max(initial=0) >> bits == 0, "a symbol outside the alphabet")
    return symbols


def huffman(data, count):
    if count == 0:
        return np.zeros(0, "u1")
    first, last = data.take(2)
    if first == last:
        return np.full(count, first, "u1")
    length, codes = 6, []
    for symbol in range(first, last + 1):
        ones = next((i for i in range(4) if not data.bits(1)), 4)
        if ones != 3:
            length = data.bits(3) + 1 if ones == 4 else length + (0, 1, -1)[ones]
            codes.append((length, symbol))
    data.end_of_bits()
    need(all(1 <= n <= 8 for n, _ in codes) and sum(256 >> n for n, _ in codes) == 256, "the code is not complete")
    # By the next eight bits: the code's first bit is the highest of these numbers, but the lowest of those in the lanes.
    by_first = [(symbol, length) for length, symbol in sorted(codes) for _ in range(256 >> length)]
    table, out = [by_first[int(f"{window:08b}"[::-1], 2)] for window in range(256)], bytearray(count)
    for start in range(0, count, 1 << 17):
        end = min(start + (1 << 17), count)
        lanes = 1 << min(64, max(1, (end - start) // 1024)).bit_length() - 1
        sizes = [len(data.left)]
        if lanes > 1:
            word = int(data.array("<u2", 1)[0])
            sizes = [(word & 4095) + data.bits(word >> 12) for _ in range(lanes)]
            data.end_of_bits()
        for lane, size in enumerate(sizes):
            word, used = int.from_bytes(data.take(size), "little"), 0
            for i in range(start + lane, end, lanes):
                out[i], length = table[word & 255]
                word, used = word >> length, used + length
            need(word == 0 and ceil(used, 8) == size, "a lane does not end where it says, or not in zeros")
    return np.frombuffer(out, "u1")


def rans(data, count):
    if count == 0:
        return np.zeros(0, "u1")
    frequencies = rans_frequencies(data)
    if len(frequencies) == 1:
        return np.full(count, frequencies[0][0], "u1")
    return blocks(data, count, lambda lanes: Alone(slots(frequencies)))


def slots(frequencies):
    """By the lowest 12 bits of a state: the symbol, its frequency, and how far into its range they are."""
    return [(symbol, frequency, i) for symbol, frequency in frequencies for i in range(frequency)]


class Alone:
    """Symbols that know nothing of those before them."""

    def __init__(self, table):
        self.table = table

    def of(self, lane, state):
        return self.table[state & 4095]


# Of a trellis by its states, what changes a state that loses a one, and one that a code of the second subset leads on from.
TRELLISES = {4: (2, 1), 8: (5, 2), 16: (9, 2), 32: (18, 4), 64: (33, 10)}


class Paths:
    """Codes along the paths of the lanes of a block, of the table for the parity that each has come to."""

    def __init__(self, states, lanes, tables):
        self.taps, self.at, self.tables = TRELLISES[states], [0] * lanes, tables

    def of(self, lane, state):
        at = self.at[lane]
        found = self.tables[at & 1][state & 4095]
        self.at[lane] = at >> 1 ^ self.taps[0] * (at & 1) ^ self.taps[1] * (found[0] >> 1 & 1)
        return found


def trellis(data, count, states):
    if count == 0:
        return np.zeros(0, "u1")
    tables = []
    for parity in (0, 1):
        codes = [(symbol << 1 | parity, frequency) for symbol, frequency in rans_frequencies(data)]
        if len(codes) == 1:
            code = codes[0][0]
            codes = sorted([(code, 4095), (code ^ 2, 1)])
        need(codes[-1][0] < 256, "a code beyond 8 bits")
        tables.append(slots(codes))
    return blocks(data, count, lambda lanes: Paths(states, lanes, tables))


def blocks(data, count, model):
    """Symbols in blocks, each of which a model of so many lanes knows."""
    out = bytearray()
    while len(out) < count:
        size = min(1 << 16, count - len(out))
        block = Bytes(data.take(data.number()) if len(out) + size < count else data.rest())
        if size < 2048:
            width = min(len(block.left), 4 - len(block.left) % 2)
            state = int.from_bytes(block.take(width), "little")
            need(width == 0 or state >> 8 * width - 8 > 0, "a state has a zero at its high end")
            words = block.array("<u2", len(block.left) // 2).tolist()
            out += rans_pop([state], words, (model(1), 1, 0), size, range(1))
        else:
            lanes = 1 << min(32, size // 512).bit_length() - 1
            tail = block.bits(10)
            words = block.bits(5) if tail == 1023 else lanes - 2
            states = [1 << bits | block.bits(bits) for bits in [16 + block.bits(4) for _ in range(lanes)]]
            block.end_of_bits()
            known = model(lanes)
            lane_words = block.array("<u2", len(block.left) // 2).tolist()
            out += rans_pop(states, lane_words, (known, lanes, 0), size - tail, range(1 << 16, 2 << 16))
            low, high, *free = (state & 0xFFFF for state in states)
            need(words <= lanes - 2 and not any(free[words:]), "more words than a tail has")
            out += rans_pop([high << 16 | low], free[:words], (known, lanes, size - tail), tail, range(1))
        block.end()
    return np.frombuffer(out, "u1")


def rans_pop(states, words, model, count, begin):
    """So many symbols, one of each state in turn; a state that becomes small takes a word. They end where an encoder begins. `model` says
    the symbols of so many lanes, which take turns from this turn on."""
    known, lanes, turn = model
    need(not words or all(state >> 16 for state in states), "a state is too small for the words after it")
    out, words = bytearray(count), iter(words)
    for i in range(count):
        state = states[i % len(states)]
        out[i], frequency, offset = known.of((turn + i) % lanes, state)
        state = frequency * (state >> 12) + offset
        if state < 1 << 16 and (word := next(words, None)) is not None:
            state = state << 16 | word
        states[i % len(states)] = state
    need(next(words, None) is None and all(state in begin for state in states), "a lane does not end where it began")
    return out


def rans_frequencies(data):
    """Symbols and their frequencies in 4096ths."""
    present = data.bits(8) + 1
    largest = data.bits(8) if present < 256 else 255
    if present == 1:
        return [(largest, 4096)]
    if present - 1 == largest:
        smaller = list(range(largest))
    elif 8 * (present - 1) < largest:
        smaller = [data.bits(8) for _ in range(present - 1)]
    else:
        smaller = [symbol for symbol in range(largest) if data.bits(1)]
    symbols = [*smaller, largest]
    need(len(symbols) == present and symbols == sorted(set(symbols)), "not as many symbols as it says, or not in order")
    precision = 5 + data.bits(3)
    digits, steps = precision - (present.bit_length() - 1), []
    for _ in range(present - 1):
        zeros = next((i for i in range(5) if data.bits(1)), 5)
        change = (1 << zeros | data.bits(zeros)) - 1
        digits += -(change + 1 >> 1) if change & 1 else change >> 1
        need(zeros < 5 and 0 <= digits < 12, "a frequency is too large")
        steps.append(1 << digits | data.bits(digits))
    data.end_of_bits()
    steps.append((1 << precision) - sum(steps))
    need(steps[-1] > 0, "the frequencies are more than all")
    return [(symbol, step << 12 - precision) for symbol, step in zip(symbols, steps)]


def planes(data, width, count):
    """Patterns of what is no float: streams of the lowest bytes of all, of the next, and so on."""
    coded = [Bytes(data.take(data.number())) for _ in range(width - 1)] if width > 1 else []
    return sum(stream(plane, 8, count).astype("u8") << np.uint64(8 * i) for i, plane in enumerate([*coded, data])).astype(f"<u{width}")


def floats(data, width, mantissa, count):
    """Patterns of floats: the ranks of common exponents with the two highest bits of the mantissa, in the form of before without; the others
    as they are; and signs with the other digits in planes."""
    tag, exponents = data.take(1)[0], "<u2" if width == 8 else "u1"
    ranks, joint = tag & 127, tag >> 7 << 1
    digits, part = mantissa - joint, lambda: Bytes(data.take(int(data.array("<u4", 1)[0])))
    if tag == 0:
        patterns = data.array(f"<u{width}", count)
    else:
        common, (low, high) = data.array(exponents, ranks), divmod(digits + 1, 8)
        flags = data.take(1)[0] if joint else 0
        need(flags >> low == 0, "a plane that is not there")
        planes = [stream(part(), 8, count) if flags >> i & 1 else data.array("u1", count) for i in range(low)]
        planes += [fields(data.take(4 * ceil(count * high, 32)), high, count)] if high else []
        coded = part()
        symbols = huffman(coded, count)
        coded.end()
        rank, top = symbols >> joint, (symbols & (1 << joint) - 1).astype("u8")
        need(rank.max(initial=0) <= ranks <= 16, "ranks that no exponent has")
        others = int(np.count_nonzero(rank == ranks))
        plain = len(data.left) == others * np.dtype(exponents).itemsize
        exponent = np.append(common, common[:1])[rank].astype("u8")
        exponent[rank == ranks] = data.array(exponents, others) if plain else huffman(data, others)
        need(not np.any(exponent >> np.uint64(8 * width - 1 - mantissa)), "an exponent of too many bits")
        rest = sum(plane.astype("u8") << np.uint64(8 * i) for i, plane in enumerate(planes))
        sign, rest = rest >> np.uint64(digits), rest & np.uint64((1 << digits) - 1)
        patterns = sign << np.uint64(8 * width - 1) | exponent << np.uint64(mantissa) | top << np.uint64(digits) | rest
    data.end()
    return patterns.astype(f"<u{width}")


def mix(x):
    x = (x ^ x >> np.uint32(16)) * np.uint32(0x7FEB352D)
    x = (x ^ x >> np.uint32(15)) * np.uint32(0x846CA68B)
    return x ^ x >> np.uint32(16)


def hashes(positions, number, count):
    """So many hashes of each position, each of the one before; `number` is that of the seed."""
    found = [mix(positions + np.uint32(STEP * (number + 1) & 0xFFFFFFFF))]
    while len(found) < count:
        found.append(mix(found[-1] + np.uint32(STEP)))
    return found


def high(a, b):
    return (a.astype("u8") * np.uint64(b) >> np.uint64(32)).astype("i8")


def result_bits(data, bits):
    head = data.take(1)[0]
    need((head >> 4 & 7) + 1 == bits <= head & 15, "a structure of other codes, or of too few bits")
    return head & 15, head >> 7


def bloomier(data, bits, count):
    """A result for every position: one below 2^bits is a code."""
    if not data.left:
        return np.full(count, NONE, "u2")
    (t, flag), third, number = result_bits(data, bits), data.number(), data.take(1)[0]
    need(not flag and 0 < third <= 1 << 30, "not as many cells as there may be")
    cells = fields(data.take(ceil(3 * third * t, 8)), t, 3 * third)
    data.end()
    *places, result = hashes(np.arange(count, dtype="u4"), number, 4)
    for i, place in enumerate(places):
        result = result ^ cells[i * third + high(place, third)]
    return (result & np.uint32((1 << t) - 1)).astype("u2")


def ribbon(data, bits, count):
    """The same, or NONE."""
    results = np.full(count, NONE, "u2")
    if not data.left:
        return results
    (t, ordered), bumping, bumps = result_bits(data, bits), data.number(), []
    need(bumping <= 4, "too many ribbons")
    groups, listed = [data.number() for _ in range(bumping + 1)], data.number()
    need(all(groups[:bumping]), "a ribbon without slots")
    for size in groups[:bumping]:
        buckets = ceil(64 * size - 63, 128)
        bumps.append(np.array([0, 24, 60, 128])[fields(data.take(ceil(2 * buckets, 8)), 2, buckets)])
    position_bits = (count - 1).bit_length()
    listed = [(data.bits(position_bits), data.bits(bits)) for _ in range(listed)]
    data.end_of_bits()
    for number, size in enumerate(groups):
        if size == 0:
            break
        words = np.concatenate([data.array("<u8", size * t), np.zeros(t, "u8")]).reshape(size + 1, t)
        positions = np.flatnonzero(results == NONE).astype("u4")
        low, upper, other = hashes(positions, number, 3)
        at, scale, fill = other, 64 * size - 63, max(1, position_bits)
        if ordered and number == 0 < bumping:
            at, scale = positions << np.uint32(32 - fill), (scale << fill) // count
        start = high(at, scale)
        kept = start % 128 >= bumps[number][start // 128] if number < bumping else np.ones(len(start), bool)
        group, shift = start[kept] // 64, (start[kept] % 64).astype("u8")[:, None]
        window = words[group] >> shift | words[group + 1] << np.uint64(1) << np.uint64(63) - shift
        coefficients = upper[kept].astype("u8") << np.uint64(32) | low[kept] | np.uint64(1)
        parity = window & coefficients[:, None]
        for half in (32, 16, 8, 4, 2, 1):
            parity ^= parity >> np.uint64(half)
        sums = ((parity & np.uint64(1)) << np.arange(t, dtype="u8")).sum(axis=1)
        results[positions[kept]] = (sums ^ other[kept]) & np.uint64((1 << t) - 1)
    data.end()
    need(all(a < b for (a, _), (b, _) in zip(listed, listed[1:])), "the list is not in order")
    for position, code in listed:
        results[position] = code
    return results
