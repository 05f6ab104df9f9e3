//! Strings.

use super::*;

#[test]
fn strings_count_what_they_hold() {
    unsafe fn script(_: NDIS_HANDLE) {
        let narrow =
            UNICODE_STRING { Length: 3, MaximumLength: 4, Buffer: c"abc".as_ptr().cast_mut().cast() };
        let mut wide: UNICODE_STRING = std::mem::zeroed();
        assert_eq!(RtlAnsiStringToUnicodeString(&mut wide, &narrow, 1), 0);
        let expected = units("ABC");
        assert_eq!(RtlEqualUnicodeString(&wide, &string(&expected), 1), 1);
        assert_eq!(RtlEqualUnicodeString(&wide, &string(&expected), 0), 0);
        DbgPrint(c"%s, %wZ %d\n".as_ptr().cast(), c"one".as_ptr() as usize, &raw const wide as usize, 42);
        RtlFreeUnicodeString(&mut wide);
    }
    unsafe fn left(_: NDIS_HANDLE) {
        let narrow =
            UNICODE_STRING { Length: 3, MaximumLength: 4, Buffer: c"abc".as_ptr().cast_mut().cast() };
        let mut wide: UNICODE_STRING = std::mem::zeroed();
        RtlAnsiStringToUnicodeString(&mut wide, &narrow, 1);
    }
    unsafe fn half(_: NDIS_HANDLE) {
        let text = units("ab");
        let odd = UNICODE_STRING { Length: 3, ..string(&text) };
        RtlEqualUnicodeString(&odd, &odd, 0);
    }
    let lab = lab().build();
    clean_on(&lab, script);
    assert_eq!(lab.take_debug_output(), ["one, abc 42\n"]);
    breaks(rules::LEAK_UNLOAD, left);
    breaks(rules::STRING_USE, half);
}
