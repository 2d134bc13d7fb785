//! The small language the whole-system tests are written in.
