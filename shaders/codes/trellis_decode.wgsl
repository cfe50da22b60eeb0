// Codes along paths through a trellis (src/codec/trellis.rs says how they are stored), with two tables of frequencies for each stream.

struct Params { total: u32, words: u32, tables: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> data: array<u32>;             // the streams' bytes
@group(0) @binding(2) var<storage, read> blocks: array<u32>;           // [total, 5]: first byte, bytes, symbols, first word of them, table
@group(0) @binding(3) var<storage, read> slots: array<u32>;            // [tables, 2, 4096]
@group(0) @binding(4) var<storage, read_write> symbols: array<u32>;    // four a word
@group(0) @binding(5) var<storage, read_write> failed: array<atomic<u32>>;

override WG: u32;
override LOST: u32;        // what changes a state that loses a one
override LED: u32;         // what changes one that a code of the second subset leads on from

fn slot_of(x: u32, table: u32, path: u32) -> u32 {
    return slots[min(table, params.tables - 1u) * 8192u + ((path & 1u) << 12u) + (x & 0xfffu)];
}

fn led(path: u32, slot: u32) -> u32 {
    return (path >> 1u) ^ ((path & 1u) * LOST) ^ (((slot >> 1u) & 1u) * LED);
}
