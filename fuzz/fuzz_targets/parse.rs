//! See `tandem_fuzz::parse`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tandem_fuzz::parse(bytes));
