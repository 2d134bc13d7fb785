//! Properties that hold for any pod and any text, over drawn ones.

mod generator;
mod pods;
mod yaml;
