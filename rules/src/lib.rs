//! The rules file and every decision made from it.
