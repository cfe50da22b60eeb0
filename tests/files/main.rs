//! What is read: every format, quantized layouts, archives of old, and what is malformed, damaged or forged.

#[path = "../support/mod.rs"]
mod support;

mod damage;
mod decoded;
mod defaults;
mod forged;
mod formats;
mod fuzz;
mod golden;
mod malformed;
mod quantized;
mod recipes;
