//! The vectors are those of RFC 7541 Appendix C.

use super::*;
use proptest::prelude::*;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    digits
        .chunks(2)
        .map(|pair| u8::try_from(pair[0] << 4 | pair[1]).unwrap())
        .collect()
}

fn assert_decodes(decoder: &mut Decoder, block: &str, expected: &[(&str, &str)], table_bytes: usize) {
    let fields = decoder.decode(&hex(block)).unwrap();
    let text = |raw: &[u8]| String::from_utf8(raw.to_vec()).unwrap();
    let fields: Vec<_> = fields.iter().map(|(name, value)| (text(name), text(value))).collect();
    let expected: Vec<_> = expected
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    assert_eq!(fields, expected);
    assert_eq!(decoder.table.bytes(), table_bytes);
}

#[test]
fn single_fields() {
    let literal = "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572";
    assert_decodes(&mut Decoder::new(), literal, &[("custom-key", "custom-header")], 55);
    let without_indexing = "040c 2f73 616d 706c 652f 7061 7468";
    assert_decodes(&mut Decoder::new(), without_indexing, &[(":path", "/sample/path")], 0);
    let never = "1008 7061 7373 776f 7264 0673 6563 7265 74";
    assert_decodes(&mut Decoder::new(), never, &[("password", "secret")], 0);
    assert_decodes(&mut Decoder::new(), "82", &[(":method", "GET")], 0);
}

#[test]
fn requests_with_and_without_huffman() {
    let plain = [
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ];
    let huffman = [
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ];
    let host = (":authority", "www.example.com");
    for blocks in [plain, huffman] {
        let mut decoder = Decoder::new();
        let first = [(":method", "GET"), (":scheme", "http"), (":path", "/"), host];
        assert_decodes(&mut decoder, blocks[0], &first, 57);
        let second = [
            (":method", "GET"),
            (":scheme", "http"),
            (":path", "/"),
            host,
            ("cache-control", "no-cache"),
        ];
        assert_decodes(&mut decoder, blocks[1], &second, 110);
        let third = [
            (":method", "GET"),
            (":scheme", "https"),
            (":path", "/index.html"),
            host,
            ("custom-key", "custom-value"),
        ];
        assert_decodes(&mut decoder, blocks[2], &third, 164);
    }
}

#[test]
fn responses_with_eviction_with_and_without_huffman() {
    let plain = [
        "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 \
         3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "4803 3330 37c1 c0bf",
        "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 \
         7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 \
         6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31",
    ];
    let huffman = [
        "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad \
         1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
        "4883 640e ffc1 c0bf",
        "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 \
         e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
    ];
    let (private, location) = (("cache-control", "private"), ("location", "https://www.example.com"));
    let early = ("date", "Mon, 21 Oct 2013 20:13:21 GMT");
    let late = ("date", "Mon, 21 Oct 2013 20:13:22 GMT");
    let cookie = ("set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1");
    for blocks in [plain, huffman] {
        let mut decoder = Decoder::new();
        decoder.table.resize(256);
        assert_decodes(
            &mut decoder,
            blocks[0],
            &[(":status", "302"), private, early, location],
            222,
        );
        assert_decodes(
            &mut decoder,
            blocks[1],
            &[(":status", "307"), private, early, location],
            222,
        );
        let third = [
            (":status", "200"),
            private,
            late,
            location,
            ("content-encoding", "gzip"),
            cookie,
        ];
        assert_decodes(&mut decoder, blocks[2], &third, 215);
    }
}

#[test]
fn names_what_is_wrong() {
    let error = |block: &[u8]| Decoder::new().decode(block).unwrap_err();
    assert_eq!(error(&[0x80]), DecodeError::UnknownIndex(0));
    assert_eq!(error(&[0xbe]), DecodeError::UnknownIndex(62));
    assert_eq!(error(&[0x00]), DecodeError::CutShort);
    assert_eq!(error(&[0x00, 0x05, b'a']), DecodeError::CutShort);
    assert_eq!(error(&[0x82, 0x20]), DecodeError::LateTableSize);
    assert_eq!(
        error(&[0x3f, 0xe2, 0x1f]),
        DecodeError::TableTooLarge {
            size: 4097,
            limit: 4096
        }
    );
    assert_eq!(
        error(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
        DecodeError::IntegerTooLarge
    );
}

proptest! {
    #[test]
    fn is_total(blocks: Vec<Vec<u8>>) {
        let mut decoder = Decoder::new();
        for block in blocks {
            drop(decoder.decode(&block));
        }
    }
}
