//! The Cloudflare half of Spillway.
