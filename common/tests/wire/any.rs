//! Any value of any serde type, drawn from a tape of bytes through the type's own `Deserialize`.
//!
//! A message with new fields or variants is covered without a line here.

use std::fmt;

use aim_common::metric::Metric;
use proptest::prelude::*;
use serde::de::{self, DeserializeOwned, IntoDeserializer, Visitor};

/// Any value of the type.
pub(crate) fn any_value<T: DeserializeOwned + fmt::Debug>() -> impl Strategy<Value = T> {
    proptest::collection::vec(any::<u8>(), 64..512)
        .prop_filter_map("the tape is not a value of this type", |tape| draw(&tape))
}

/// The value that the tape stands for, if it stands for one.
pub(crate) fn draw<T: DeserializeOwned>(tape: &[u8]) -> Option<T> {
    T::deserialize(&mut Tape { bytes: tape, at: 0 }).ok()
}

/// A tape that gives zeros once it is used up, so that every value ends.
struct Tape<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Tape<'_> {
    fn byte(&mut self) -> u8 {
        self.at += 1;
        self.bytes.get(self.at - 1).copied().unwrap_or_default()
    }

    /// Small numbers and the largest ones are as frequent as any others.
    fn number(&mut self) -> u64 {
        match self.byte() {
            0..=99 => u64::from(self.byte()),
            100..=149 => u64::MAX,
            150..=179 => u64::from(self.byte()) << 32,
            180..=209 => u64::from(self.byte()) << 8,
            _ => (0..8).fold(0, |number, _| number << 8 | u64::from(self.byte())),
        }
    }

    fn signed(&mut self) -> i64 {
        self.number().cast_signed()
    }

    fn text(&mut self) -> String {
        let len = self.byte() % 12;
        (0..len)
            .map(|_| ['a', 'Z', '0', ' ', '\n', '\0', 'é', '界', '\u{2028}'][usize::from(self.byte()) % 9])
            .collect()
    }
}

/// A tape that is not a value of the type.
#[derive(Debug)]
pub(crate) struct NotAValue;

impl fmt::Display for NotAValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a value")
    }
}

impl std::error::Error for NotAValue {}

impl de::Error for NotAValue {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

macro_rules! numbers {
    ($($method:ident, $visit:ident, $type:ty, $draw:ident;)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NotAValue> {
            #[expect(clippy::cast_possible_truncation, reason = "any bits will do")]
            visitor.$visit(self.$draw() as $type)
        })*
    };
}

impl<'de> de::Deserializer<'de> for &mut Tape<'_> {
    type Error = NotAValue;

    numbers! {
        deserialize_i8, visit_i8, i8, signed;
        deserialize_i16, visit_i16, i16, signed;
        deserialize_i32, visit_i32, i32, signed;
        deserialize_u8, visit_u8, u8, number;
        deserialize_u32, visit_u32, u32, number;
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NotAValue> {
        visitor.visit_i64(self.signed())
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NotAValue> {
        visitor.visit_u64(self.number())
    }

    /// Often the number of a metric, which few numbers are.
    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NotAValue> {
        let [low, high] = [self.byte(), self.byte()];
        let number = u16::from_le_bytes([low, high]);
        let metric = Metric::ALL.get(usize::from(number) % Metric::ALL.len());
        visitor.visit_u16(metric.map_or(number, |metric| metric.number()))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NotAValue> {
        visitor.visit_bool(self.byte() & 1 == 1)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NotAValue> {
        visitor.visit_str(&self.text())
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NotAValue> {
        visitor.visit_string(self.text())
    }

    /// Often 16 bytes, which a UUID needs.
    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NotAValue> {
        let len = Some(self.byte()).filter(|byte| *byte < 16).unwrap_or(16);
        let bytes: Vec<u8> = (0..len).map(|_| self.byte()).collect();
        visitor.visit_bytes(&bytes)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NotAValue> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NotAValue> {
        if self.byte() & 1 == 1 { visitor.visit_some(self) } else { visitor.visit_none() }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NotAValue> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, NotAValue> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NotAValue> {
        let left = usize::from(self.byte() % 4);
        visitor.visit_seq(Elements { tape: self, left })
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, NotAValue> {
        visitor.visit_seq(Elements { tape: self, left: len })
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, NotAValue> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, NotAValue> {
        self.deserialize_tuple(fields.len(), visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, NotAValue> {
        let variant = u32::from(self.byte()) % u32::try_from(variants.len().max(1)).unwrap_or(1);
        visitor.visit_enum(Variant { tape: self, variant })
    }

    // The wire format is not self-describing: a type that asks what is there has no place in a message.
    serde::forward_to_deserialize_any! { i128 u128 f32 f64 char unit_struct map identifier ignored_any }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, NotAValue> {
        panic!("a message holds a type that the wire format cannot carry")
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

struct Elements<'t, 'a> {
    tape: &'t mut Tape<'a>,
    left: usize,
}

impl<'de> de::SeqAccess<'de> for Elements<'_, '_> {
    type Error = NotAValue;

    fn next_element_seed<T: de::DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, NotAValue> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        seed.deserialize(&mut *self.tape).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

struct Variant<'t, 'a> {
    tape: &'t mut Tape<'a>,
    variant: u32,
}

impl<'de, 't, 'a> de::EnumAccess<'de> for Variant<'t, 'a> {
    type Error = NotAValue;
    type Variant = Body<'t, 'a>;

    fn variant_seed<V: de::DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Self::Variant), NotAValue> {
        let deserializer = IntoDeserializer::<NotAValue>::into_deserializer(self.variant);
        seed.deserialize(deserializer).map(|value| (value, Body(self.tape)))
    }
}

struct Body<'t, 'a>(&'t mut Tape<'a>);

impl<'de> de::VariantAccess<'de> for Body<'_, '_> {
    type Error = NotAValue;

    fn unit_variant(self) -> Result<(), NotAValue> {
        Ok(())
    }

    fn newtype_variant_seed<T: de::DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, NotAValue> {
        seed.deserialize(self.0)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, NotAValue> {
        de::Deserializer::deserialize_tuple(self.0, len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, NotAValue> {
        de::Deserializer::deserialize_tuple(self.0, fields.len(), visitor)
    }
}
