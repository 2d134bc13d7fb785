//! W3C Trace Context: reading and writing `traceparent`.

/// The context of one operation in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// The id of the trace; never 0.
    pub trace: u128,
    /// The id of the sender's span; never 0.
    pub span: u64,
    /// Whether the caller records the trace; whoever continues it does the same.
    pub is_sampled: bool,
}

/// Bytes of version `00`; a later version may be longer.
const LENGTH: usize = 55;

impl Context {
    /// Parses a `traceparent`. `None` for one that must not be continued (section 3.2.2 of the
    /// recommendation).
    pub fn parse(text: &str) -> Option<Self> {
        let (own, more) = text.split_at_checked(LENGTH)?;
        let mut parts = own.split('-');
        let mut next = |digits: usize| {
            let part = parts.next().filter(|part| part.len() == digits)?;
            // Only lower-case hex is allowed, and no sign, which a number could begin with.
            let is_hex = part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
            if is_hex { u128::from_str_radix(part, 16).ok() } else { None }
        };
        let (version, trace, span, flags) = (next(2)?, next(32)?, next(16)?, next(2)?);
        let may_be_longer = version > 0 && more.starts_with('-');
        if version == 0xff || trace == 0 || span == 0 || !(more.is_empty() || may_be_longer) {
            return None;
        }
        let span = u64::try_from(span).ok()?;
        Some(Self { trace, span, is_sampled: flags & 1 == 1 })
    }
}

impl Context {
    /// The value of the field.
    pub fn value(&self) -> [u8; LENGTH] {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        let [_, _, _, rest @ ..] = &mut text;
        let (trace, rest) = rest.split_at_mut(32);
        let (span, flags) = rest.split_at_mut(18);
        write_hex(trace, &self.trace.to_be_bytes());
        write_hex(span.get_mut(1..17).unwrap_or_default(), &self.span.to_be_bytes());
        write_hex(flags, &[self.is_sampled.into()]);
        text
    }
}

impl std::fmt::Display for Context {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(str::from_utf8(&self.value()).unwrap_or_default())
    }
}

/// Writes bytes as hex. `{:032x}` would cost more than all else that tracing does for a request.
fn write_hex(digits: &mut [u8], bytes: &[u8]) {
    let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
    let (pairs, _) = digits.as_chunks_mut::<2>();
    for (pair, byte) in pairs.iter_mut().zip(bytes) {
        *pair = [digit(byte >> 4), digit(byte & 15)];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, proptest};

    const EXAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn the_recommendations_example_is_read_and_written() {
        let context = Context::parse(EXAMPLE).expect("the example");
        assert_eq!(context.trace, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
        assert_eq!((context.span, context.is_sampled), (0x00f0_67aa_0ba9_02b7, true));
        assert_eq!(context.to_string(), EXAMPLE);
    }

    #[test]
    fn what_is_no_context_is_not_continued() {
        for text in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e47360-0f067aa0ba902b7-01",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01more",
        ] {
            assert_eq!(Context::parse(text), None, "{text}");
        }
        // A later version contains at least the fields of this one.
        assert!(
            Context::parse("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-09-more")
                .is_some()
        );
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_nothing_panics(trace in 1..=u128::MAX, span in 1..=u64::MAX, is_sampled in any::<bool>(), junk in ".{0,80}") {
            let context = Context { trace, span, is_sampled };
            assert_eq!(Context::parse(&context.to_string()), Some(context));
            let _ = Context::parse(&junk);
        }
    }
}
