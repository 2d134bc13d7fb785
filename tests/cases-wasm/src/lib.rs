//! Runs the corpus of rule cases.
