// The dashboard: one card with a plot per instrument, refreshed every few seconds.

const REFRESH_MS = 2000;
const REMEMBERED = "market.instruments";
const cards = new Map();

const page = document.body.dataset;
const money = new Intl.NumberFormat("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });

function css(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function seconds(text) {
  return Date.parse(text) / 1000;
}

function plot(element, height, points, dates) {
  const axis = { stroke: css("--faint"), grid: { stroke: css("--line"), width: 1 }, ticks: { show: false } };
  const options = {
    width: element.clientWidth || 300,
    height,
    legend: { show: false },
    cursor: { y: false },
    axes: [{ ...axis, show: dates, size: 32 }, { ...axis, size: 56 }],
    series: [{}, { stroke: css("--accent"), width: 1.5, fill: `${css("--accent")}1c` }],
  };
  return new uPlot(options, columns(points), element);
}

function columns(points) {
  return [points.map(([when]) => seconds(when)), points.map(([, price]) => price)];
}

class Card {
  constructor(id) {
    this.id = id;
    const copy = document.getElementById("card").content.cloneNode(true);
    this.element = copy.firstElementChild;
    document.getElementById("cards").append(copy);
    this.part = (name) => this.element.querySelector(name);
    this.part("strong").textContent = `No. ${id}`;
    this.part(".close").addEventListener("click", () => remove(id));
    this.part("form").addEventListener("submit", (event) => this.record(event));
  }

  async refresh() {
    try {
      const answer = await fetch(`/api/prices/${this.id}`);
      if (!answer.ok) return this.fail(answer.status);
      this.show(await answer.json());
    } catch {
      this.fail(0);
    }
  }

  show(quote) {
    const { points, ticks, last } = quote;
    const before = ticks.length > 1 ? ticks.at(-2)[1] : points.at(-2)[1];
    const change = (last.price / before - 1) * 100;
    this.element.classList.remove("absent");
    this.part("strong").textContent = quote.symbol;
    this.part(".price").textContent = money.format(last.price);
    this.part(".change").textContent = `${change < 0 ? "" : "+"}${change.toFixed(2)} %`;
    this.part(".change").className = `change ${change < 0 ? "down" : "up"}`;
    this.part(".state").textContent = `${quote.currency}, ${last.source} of ${last.ts}`;
    this.history = this.draw(this.history, ".plot.history", 170, points, true);
    if (ticks.length > 1) this.trades = this.draw(this.trades, ".plot.ticks", 70, ticks, false);
  }

  draw(existing, place, height, points, dates) {
    if (!existing) return plot(this.part(place), height, points, dates);
    existing.setData(columns(points));
    return existing;
  }

  // Not being held and not being reachable are two things; the last plot stays for the second.
  fail(status) {
    const words = {
      400: "not an instrument id",
      404: "no such instrument",
      503: "temporarily unavailable, trying again",
      0: "no connection, trying again",
    };
    this.part(".state").textContent = words[status] ?? `error ${status}, trying again`;
    this.element.classList.toggle("absent", status === 400 || status === 404);
  }

  async record(event) {
    event.preventDefault();
    const input = this.part("form input");
    const tick = { instrument_id: Number(this.id), price: Number(input.value) };
    const headers = { "Content-Type": "application/json" };
    try {
      const answer = await fetch("/api/ticks", { method: "POST", headers, body: JSON.stringify(tick) });
      if (!answer.ok) return this.fail(answer.status);
      input.value = "";
      await this.refresh();
    } catch {
      this.fail(0);
    }
  }

  resize() {
    const width = this.part(".plot").clientWidth;
    this.history?.setSize({ width, height: 170 });
    this.trades?.setSize({ width, height: 70 });
  }

  remove() {
    this.history?.destroy();
    this.trades?.destroy();
    this.element.remove();
  }

  redraw() {
    this.history?.destroy();
    this.trades?.destroy();
    this.history = this.trades = undefined;
    this.refresh();
  }
}

function add(id) {
  if (cards.has(id)) return;
  const card = new Card(id);
  cards.set(id, card);
  remember();
  card.refresh();
}

function remove(id) {
  cards.get(id).remove();
  cards.delete(id);
  remember();
}

function remember() {
  localStorage.setItem(REMEMBERED, [...cards.keys()].join(","));
}

function notificationItem({ status, link, received, job }) {
  const item = document.createElement("li");
  const text = document.createElement(link ? "a" : "span");
  text.textContent = status === "succeeded" ? "Your report is ready" : `Your report: ${status}`;
  text.title = job ?? "";
  if (link) text.href = link;
  const when = document.createElement("time");
  when.className = "faint";
  when.dateTime = received;
  when.textContent = new Date(received).toLocaleTimeString();
  item.append(text, when);
  return item;
}

async function refreshNotifications() {
  if (page.signedIn !== "yes") return;
  const state = document.getElementById("notifications-state");
  try {
    const answer = await fetch("/api/notifications");
    if (!answer.ok) throw new Error(answer.status);
    const items = await answer.json();
    document.getElementById("notifications").replaceChildren(...items.map(notificationItem));
    state.textContent = items.length ? "" : "Nothing yet.";
  } catch {
    state.textContent = "Not available at the moment.";
  }
}

// One round ends before the next begins, however slow the answers are.
async function live() {
  if (!document.hidden) {
    await Promise.all([...[...cards.values()].map((card) => card.refresh()), refreshNotifications()]);
  }
  setTimeout(live, REFRESH_MS);
}

document.getElementById("add").addEventListener("submit", (event) => {
  event.preventDefault();
  const input = event.target.elements.id;
  add(String(Number(input.value)));
  input.value = "";
});

addEventListener("resize", () => cards.forEach((card) => card.resize()));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => cards.forEach((card) => card.redraw()));

const remembered = localStorage.getItem(REMEMBERED) ?? page.featured;
remembered.split(",").filter(Boolean).forEach(add);
live();
