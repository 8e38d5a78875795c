//! The wire format of Protocol Buffers (protobuf.dev, "Encoding"), as far as Envoy's question and our
//! answer need it: messages are read without copying, and written in one piece.
//!
//! Generated types for Envoy's whole API would be 8 MB of source, and copy every header of every request
//! to look at two of them.

/// No message, or a field of another type than it must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// A field's value. Numbers of a fixed size are passed over: nothing here reads one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Varint,
    Fixed,
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    pub(super) fn bytes(self) -> Result<&'a [u8], Malformed> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(Malformed),
        }
    }

    /// A string is UTF-8.
    pub(super) fn text(self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed)
    }

    /// The fields of a message inside.
    pub(super) fn fields(self) -> Result<Fields<'a>, Malformed> {
        self.bytes().map(Fields)
    }

    /// An entry of a map, or a pair of texts alike: fields 1 and 2.
    pub(super) fn entry(self) -> Result<(&'a str, &'a str), Malformed> {
        let (mut key, mut value) = ("", "");
        for field in self.fields()? {
            match field? {
                (1, it) => key = it.text()?,
                (2, it) => value = it.text()?,
                _ => {}
            }
        }
        Ok((key, value))
    }
}

/// The fields of a message, in the order in which they came. After a mistake there are no more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Value<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Result<(u32, Value<'a>), Malformed> {
        let tag = u32::try_from(self.varint()?).map_err(|_| Malformed)?;
        let value = match tag & 7 {
            0 => self.varint().map(|_| Value::Varint)?,
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
                Value::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            _ => return Err(Malformed), // groups, which proto3 does not have
        };
        match tag >> 3 {
            0 => Err(Malformed),
            number => Ok((number, value)),
        }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    /// Seven bits a byte, the lowest first; the tenth byte has room for one.
    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for (place, byte) in self.0.iter().take(10).enumerate() {
            if place == 9 && *byte > 1 {
                return Err(Malformed);
            }
            value |= u64::from(byte & 0x7f) << (7 * place);
            if *byte < 0x80 {
                self.0 = &self.0[place + 1..];
                return Ok(value);
            }
        }
        Err(Malformed)
    }
}

/// A message that is being written.
#[derive(Debug, Default)]
pub(super) struct Message(pub(super) Vec<u8>);

impl Message {
    /// A number; proto3 leaves out 0.
    pub(super) fn number(&mut self, field: u32, value: u64) {
        if value != 0 {
            self.varint(u64::from(field) << 3);
            self.varint(value);
        }
    }

    /// A double, 0 included: for a member of a `oneof`, which is there even so.
    pub(super) fn double(&mut self, field: u32, value: f64) {
        self.varint(u64::from(field) << 3 | 1);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// A number or truth value of a `oneof`, which is there even if it is 0.
    pub(super) fn chosen(&mut self, field: u32, value: u64) {
        self.varint(u64::from(field) << 3);
        self.varint(value);
    }

    /// A text, an empty one included.
    pub(super) fn text(&mut self, field: u32, text: &str) {
        self.bytes(field, text.as_bytes());
    }

    /// The same, where it is known to be one.
    pub(super) fn bytes(&mut self, field: u32, text: &[u8]) {
        self.varint(u64::from(field) << 3 | 2);
        self.varint(text.len() as u64);
        self.0.extend_from_slice(text);
    }

    /// A message inside.
    pub(super) fn nested(&mut self, field: u32, write: impl FnOnce(&mut Self)) {
        self.varint(u64::from(field) << 3 | 2);
        // Its length comes before it, and is known only afterwards. Mostly it has one byte.
        let place = self.0.len();
        self.0.push(0);
        write(self);
        let length = self.0.len() - place - 1;
        if length < 0x80 {
            self.0[place] = length as u8; // less than 0x80
        } else {
            let inside = self.0.split_off(place + 1);
            self.0.truncate(place);
            self.varint(length as u64);
            self.0.extend_from_slice(&inside);
        }
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80); // its lowest seven bits, and that more follow
            value >>= 7;
        }
        self.0.push(value as u8); // less than 0x80
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<(u32, Value<'_>)>, Malformed> {
        Fields(bytes).collect()
    }

    #[test]
    fn fields_are_read_one_after_the_other() {
        assert_eq!(read(&[]), Ok(vec![]));
        // 1: 150; 2: "testing"; 3: a message with 1: 150 (the examples of protobuf.dev)
        let bytes = b"\x08\x96\x01\x12\x07testing\x1a\x03\x08\x96\x01";
        let fields = read(bytes).unwrap();
        assert_eq!(fields[0], (1, Value::Varint));
        assert_eq!(fields[1].1.text(), Ok("testing"));
        assert_eq!(fields[2].1.fields().unwrap().next(), Some(Ok((1, Value::Varint))));
        let fixed = b"\x0d\x01\x02\x03\x04\x09\x01\x02\x03\x04\x05\x06\x07\x08";
        assert_eq!(read(fixed), Ok(vec![(1, Value::Fixed); 2]));
    }

    #[test]
    fn what_is_no_message_is_malformed() {
        for bytes in [
            &b"\x08"[..],                                        // a number without its value
            b"\x08\x80",                                         // cut off
            b"\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x02",     // more than 64 bits
            b"\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00", // eleven bytes
            b"\x0a\x02a",                                        // longer than what is there
            b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",     // as long as can be
            b"\x0d\x01",                                         // four bytes of which one came
            b"\x09\x01",                                         // eight
            b"\x02\x00",                                         // field 0
            b"\x0b\x0c",                                         // a group
            b"\x0e",                                             // no such type
            b"\x88\x80\x80\x80\x80\x01\x01",                     // a field number beyond 2^29
        ] {
            assert_eq!(read(bytes), Err(Malformed), "{bytes:?}");
        }
        assert_eq!(Value::Bytes(b"\xff").text(), Err(Malformed));
        assert_eq!(Value::Varint.text(), Err(Malformed));
        assert_eq!(Value::Fixed.fields().map(drop), Err(Malformed));
    }

    #[test]
    fn what_is_written_can_be_read() {
        for length in [0, 1, 127, 128, 300, 20_000] {
            let long = "x".repeat(length);
            let mut message = Message::default();
            message.number(1, 0);
            message.number(2, 401);
            message.nested(3, |inner| {
                inner.text(1, "key");
                inner.text(2, &long);
                inner.nested(4, |_| {});
            });
            message.double(5, 0.5);
            message.chosen(6, 0);
            let fields = read(&message.0).unwrap();
            let numbers: Vec<_> = fields.iter().map(|(number, _)| *number).collect();
            assert_eq!(numbers, [2, 3, 5, 6]);
            assert_eq!(fields[1].1.entry(), Ok(("key", &*long)));
        }
    }
}
