//! libFuzzer's entry to [`ipsecnic_fuzz`]'s target of this name.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ipsecnic_fuzz::run("capture", data));
