//! Whole moves as users see them: gunicorn and psycopg behind sidecars, jobs, the edge, and nobody who sees an error.

use crate::market::{Form, Market, Switched};
use crate::visitors::Visitors;
use crate::world::JOURNAL;
use std::ops::Range;
use std::time::Duration;
use support::eventually;

/// Moves there and back, unless `SPILLWAY_RESHARD_MOVES` says how many.
const MOVES: usize = 2;
/// From so many moves on, the second half of them is made with [`MANY_ROWS`].
const MOVES_FOR_MANY_ROWS: usize = 4;
/// Rows of the range before anybody writes.
const FEW_ROWS: usize = 10_000;
const MANY_ROWS: usize = 1_000_000;

/// Who has the range before the move of this number.
fn owner_before(number: usize) -> &'static str {
    if number.is_multiple_of(2) { "b" } else { "d" }
}

/// d is new at first, and b has rows of other ranges when the range comes back.
async fn there_and_back(market: &Market, numbers: Range<usize>) -> Vec<Switched> {
    let mut switches = Vec::new();
    for number in numbers {
        let switched = market.moves(owner_before(number + 1)).await;
        let finish = ["finish", "--yes", "--source", owner_before(number)];
        market.world.succeeds(&finish).await;
        eprintln!("move {number}: writes waited for {:?}", switched.pause);
        switches.push(switched);
    }
    switches
}

/// The median and the longest.
fn pauses(switches: &[Switched]) -> [Duration; 2] {
    let mut pauses: Vec<_> = switches.iter().map(|own| own.pause).collect();
    pauses.sort();
    [pauses[pauses.len() / 2], pauses[pauses.len() - 1]]
}

#[tokio::test]
async fn a_range_moves_to_a_new_shard_and_back_and_nobody_sees_it() {
    let moves = std::env::var("SPILLWAY_RESHARD_MOVES").ok().and_then(|own| own.parse().ok());
    let moves: usize = moves.unwrap_or(MOVES);
    let few = if moves < MOVES_FOR_MANY_ROWS { moves } else { moves / 2 };
    let market = Market::start(Form::Header, FEW_ROWS).await.with_edge().await;
    let visitors = Visitors::begin(&market);
    let mut switches = there_and_back(&market, 0..few).await;
    if few < moves {
        market.grow(owner_before(few), MANY_ROWS - FEW_ROWS).await;
        switches.extend(there_and_back(&market, few..moves).await);
        let (small, large) = (pauses(&switches[..few]), pauses(&switches[few..]));
        let ratio = large[0].as_secs_f64() / small[0].as_secs_f64();
        eprintln!(
            "median and longest pause: {small:?} with {FEW_ROWS} rows, {large:?} with {MANY_ROWS}: {ratio:.2} times"
        );
    }
    let seen = visitors.end().await;
    seen.check(&market, owner_before(moves), &switches).await;
    let seeds = if few < moves { MANY_ROWS } else { FEW_ROWS };
    assert_eq!(market.seeds(owner_before(moves)).await, seeds);
    assert_eq!(market.seeds(owner_before(moves + 1)).await, 0);
}

#[tokio::test]
async fn what_was_written_at_the_new_shard_is_at_the_old_one_after_a_rollback() {
    let market = Market::start(Form::Deployments, FEW_ROWS).await;
    let visitors = Visitors::begin(&market);
    let there = market.moves("d").await;
    let before = market.written("d").await.len();
    eventually("visitors write at the new shard", || async {
        (market.written("d").await.len() > before + 20).then_some(())
    })
    .await;
    let back = market.rolls_back().await;
    eprintln!("writes waited for {:?}, and for {:?} on the way back", there.pause, back.pause);
    let seen = visitors.end().await;
    seen.check(&market, "b", &[there, back]).await;
    assert_eq!(market.seeds("b").await, FEW_ROWS);
    assert_eq!(market.world.leftovers(market.database("d")).await, Vec::<String>::new());
    assert_eq!(market.world.leftovers(market.database("b")).await, JOURNAL);
}
