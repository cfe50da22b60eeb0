// Symbols of rANS streams, with a table of frequencies for each.

struct Params { total: u32, words: u32, tables: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> data: array<u32>;             // the streams' bytes
@group(0) @binding(2) var<storage, read> blocks: array<u32>;           // [total, 5]: first byte, bytes, symbols, first word of them, table
@group(0) @binding(3) var<storage, read> slots: array<u32>;            // [tables, 4096]
@group(0) @binding(4) var<storage, read_write> symbols: array<u32>;    // four a word
@group(0) @binding(5) var<storage, read_write> failed: array<atomic<u32>>;

override WG: u32;

fn slot_of(x: u32, table: u32, path: u32) -> u32 {
    return slots[min(table, params.tables - 1u) * 4096u + (x & 0xfffu)];
}

// There are no paths.
fn led(path: u32, slot: u32) -> u32 {
    return path;
}
