// What decoders of blocks of rANS (src/codec/rans.rs says how they are stored) share: a workgroup of 32 lanes per block. What is
// malformed ends in `failed`, which is 1 and the number of such a block; loops and reads are bounded whatever the bytes are.
// The kernel's own file, before this one, has params.total and params.words, data, blocks, symbols, failed, and what the lowest 12 bits
// of a state say by a table, slot_of(x, table, path), and where that leads a path, led(path, slot).

const TAIL = 1023u;

// Lanes that need a word, of three rows in turn: one is filled, one is read, one is cleared.
var<workgroup> needs: array<atomic<u32>, 3>;
// What the states of a row said, of two rows in turn.
var<workgroup> said: array<u32, 64>;
var<workgroup> free: array<u32, 32>;
// Where each lane is on its path, if codes are on one.
var<workgroup> paths: array<u32, 32>;
var<workgroup> bad: atomic<u32>;

// `count` bits, at most 31, from bit `at` after byte `start`; beyond the data zeros.
fn bits(start: u32, at: u32, count: u32) -> u32 {
    let byte = start + (at >> 3u);
    let shift = ((byte & 3u) << 3u) + (at & 7u);
    let word = byte >> 2u;
    var value = 0u;
    if word < params.words { value = data[word] >> shift; }
    if shift > 0u && word + 1u < params.words { value |= data[word + 1u] << (32u - shift); }
    return value & ((1u << count) - 1u);
}

fn word_at(start: u32, i: u32) -> u32 {
    return bits(start, 16u * i, 16u);
}

fn next(x: u32, slot: u32) -> u32 {
    return (slot >> 20u) * (x >> 12u) + ((slot >> 8u) & 0xfffu);
}

// Symbols first to last - 1 of a block of so many lanes, by one lane, along the paths of those whose turn it is; `word` is word
// first / 4 so far. Its words are those of `data` from byte `start` on, or else of `free` from the third on. False unless they
// end where they must.
fn alone(state: u32, start: u32, in_data: bool, words: u32, range: vec2<u32>, lanes: u32, out: u32, table: u32, before: u32) -> bool {
    var x = state;
    var word = before;
    var taken = 0u;
    if words > 0u && x < 65536u { return false; }
    for (var i = range.x; i < range.y; i++) {
        let path = paths[i % lanes];
        let slot = slot_of(x, table, path);
        paths[i % lanes] = led(path, slot);
        x = next(x, slot);
        if x < 65536u && taken < words {
            if in_data { x = (x << 16u) | word_at(start, taken); } else { x = (x << 16u) | free[min(2u + taken, 31u)]; }
            taken++;
        }
        word |= (slot & 0xffu) << (8u * (i & 3u));
        if (i & 3u) == 3u || i + 1u == range.y {
            symbols[out + (i >> 2u)] = word;
            word = 0u;
        }
    }
    return x == 0u && taken == words;
}

// A block of one lane.
fn single(start: u32, bytes: u32, count: u32, out: u32, table: u32) -> bool {
    var head = bytes;
    if bytes >= 4u { head = 4u - (bytes & 1u); }
    var x = 0u;
    for (var i = 0u; i < head; i++) { x |= bits(start, 8u * i, 8u) << (8u * i); }
    if head > 0u && (x >> (8u * (head - 1u))) == 0u { return false; }
    paths[0] = 0u;
    return alone(x, start + head, true, (bytes - head) / 2u, vec2<u32>(0u, count), 1u, out, table, 0u);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let block = workgroup_index(wid, groups);
    if block >= params.total { return; }
    let start = blocks[5u * block];
    let bytes = blocks[5u * block + 1u];
    let count = min(blocks[5u * block + 2u], 65536u);
    let out = blocks[5u * block + 3u];
    let table = blocks[5u * block + 4u];
    if count < 2048u {
        if lane == 0u && !single(start, bytes, count, out, table) { atomicMax(&failed[0], block + 1u); }
        return;
    }
    let lanes = min(1u << firstLeadingBit(count / 512u), WG);
    let tail = bits(start, 0u, 10u);
    let has_words = tail == TAIL;
    let tail_words = select(lanes - 2u, bits(start, 10u, 5u), has_words);
    let head = select(10u, 15u, has_words);
    var at = head + 4u * lanes;
    var end = at;
    for (var i = 0u; i < lanes; i++) {
        let long = 16u + bits(start, head + 4u * i, 4u);
        if i < lane { at += long; }
        end += long;
    }
    let long = 16u + bits(start, head + 4u * min(lane, lanes - 1u), 4u);
    var x = (1u << long) | bits(start, at, long);
    // Padding is zero; half a word is none.
    let first = (end + 7u) / 8u;
    var fine = first <= bytes && ((bytes - first) & 1u) == 0u && bits(start, end, first * 8u - end) == 0u && tail_words <= lanes - 2u;
    let words = (bytes - min(first, bytes)) / 2u;
    let many = count - tail;
    if lane < 3u { atomicStore(&needs[lane], 0u); }
    if lane == 0u { atomicStore(&bad, 0u); }
    workgroupBarrier();

    var taken = 0u;
    var path = 0u;
    let rows = (many + lanes - 1u) / lanes;
    for (var row = 0u; row < rows; row++) {
        let i = row * lanes + lane;
        let works = lane < lanes && i < many;
        let half = 32u * (row & 1u);
        var short = false;
        if works {
            let slot = slot_of(x, table, path);
            said[half + lane] = slot;
            path = led(path, slot);
            x = next(x, slot);
            short = x < 65536u;
            if short { atomicOr(&needs[row % 3u], 1u << lane); }
        }
        workgroupBarrier();
        let all = atomicLoad(&needs[row % 3u]);
        if lane == 0u { atomicStore(&needs[(row + 2u) % 3u], 0u); }
        if short {
            let mine = taken + countOneBits(all & ((1u << lane) - 1u));
            if mine < words { x = (x << 16u) | word_at(start + first, mine); } else { fine = false; }
        }
        taken += countOneBits(all);
        // The last word of symbols may belong to the tail, too.
        if works && (lane & 3u) == 0u && i + 3u < many {
            let a = said[half + lane] & 0xffu;
            let b = said[half + lane + 1u] & 0xffu;
            let c = said[half + lane + 2u] & 0xffu;
            let d = said[half + lane + 3u] & 0xffu;
            symbols[out + (i >> 2u)] = a | (b << 8u) | (c << 16u) | (d << 24u);
        }
    }
    if lane < lanes {
        free[lane] = x & 0xffffu;
        paths[lane] = path;
        fine = fine && (x >> 16u) == 1u;
    }
    if !fine || taken != words { atomicStore(&bad, 1u); }
    workgroupBarrier();
    if lane > 0u { return; }

    var before = 0u;
    let half = 32u * ((rows - 1u) & 1u);
    let last = (many - 1u) % lanes;
    for (var i = 0u; i < (many & 3u); i++) { before |= (said[half + (last & ~3u) + i] & 0xffu) << (8u * i); }
    let state = free[0] | (free[1] << 16u);
    fine = atomicLoad(&bad) == 0u;
    for (var i = 2u + tail_words; i < lanes; i++) { fine = fine && free[i] == 0u; }
    if tail > 0u {
        fine = alone(state, 0u, false, min(tail_words, lanes - 2u), vec2<u32>(many, count), lanes, out, table, before) && fine;
    } else {
        if (many & 3u) != 0u { symbols[out + (many >> 2u)] = before; }
        fine = fine && state == 0u && tail_words == 0u;
    }
    // A symbol more would not have fit the tail.
    fine = fine && (tail == TAIL || (state >> 20u) >= (said[half + last] >> 20u));
    if !fine { atomicMax(&failed[0], block + 1u); }
}
