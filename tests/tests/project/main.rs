//! What holds for the repository itself and needs no running program: the documentation against the
//! sources, the layout of the sources, and the corpora of rules.

mod bundles;
mod cases;
mod docs;
mod layers;
mod names;
mod resharding;
mod tidy;
