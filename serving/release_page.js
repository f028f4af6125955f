"use strict";
const EVERY_MS = 2000;
const base = location.pathname.replace(/\/release\/?$/, "");
const at = (id) => document.getElementById(id);
let csrf = "";
at("use_case").textContent = decodeURIComponent(base.split("/").at(-1));

function element(name, text, kind) {
  const made = document.createElement(name);
  if (text !== undefined && text !== null) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function table(id, head, rows) {
  const top = element("tr");
  const numbers = rows.length ? rows[0].map((cell) => cell instanceof Node && cell.className === "number") : [];
  head.forEach((name, i) => top.append(element("th", name, numbers[i] ? "number" : "")));
  const body = rows.map((row) => {
    const line = element("tr");
    row.forEach((cell) => line.append(cell instanceof Node ? cell : element("td", cell)));
    return line;
  });
  if (!rows.length) {
    const none = element("td", "nothing yet");
    none.colSpan = head.length;
    const line = element("tr");
    line.append(none);
    body.push(line);
  }
  at(id).replaceChildren(top, ...body);
}

const figure = (value, digits) => element("td", value === null ? "–" : value.toFixed(digits), "number");
const count = (value) => element("td", value.toLocaleString("en"), "number");
const name = (text) => element("td", text, "name");
const said = (text) => element("td", text, "said");
const time = (text) => element("td", text.replace("T", " ").slice(0, 19), "time");
const verdict = (text) => element("td", text ?? "–", text === "cannot judge" ? "cannot" : text ?? "");
const reasons = (counts) => Object.entries(counts).map(([why, n]) => `${why} ${n.toLocaleString("en")}`).join(", ") || "0";
const answered = (override) => (override ? `${override.name}: ${override.reason}` : "");

function still(needs) {
  if (!needs) return "";
  const there = `${Math.floor(needs.done * 100)} % is there`;
  if (needs.seconds === null) return there;
  const [size, unit] = needs.seconds < 5400 ? [60, "min"] : needs.seconds < 172800 ? [3600, "h"] : [86400, "days"];
  return `about ${Math.ceil(needs.seconds / size)} ${unit}, ${there}`;
}

function shown(found) {
  document.title = `Release of ${found.title}`;
  at("use_case").textContent = found.title;
  at("simulated").hidden = !found.simulated;
  const steps = ["steady", "shadow", ...found.steps.map((bps) => `canary ${bps / 100} %`)];
  const now = found.stage === "canary" ? `canary ${found.canary_bps / 100} %` : found.stage;
  at("steps").replaceChildren(...steps.map((name) => element("li", name, name === now ? "now" : "")));
  const candidate = found.candidate ? `, candidate ${found.candidate} has ${found.share}` : "";
  const held = found.held ? ", held" : "";
  at("told").textContent = `Plan ${found.epoch}: champion ${found.champion}${candidate}${held}. ${found.reason}`;
  at("waits").textContent = found.waits ? `Why it stays here: ${found.waits}` : "";
  table("arms", ["arm", "requests", "errors", "fallbacks", "p50 ms", "p99 ms", "mean score", "breaker"],
    Object.entries(found.arms).map(([which, arm]) => {
      const open = which === "candidate" ? Object.values(found.breakers) : [];
      return [name(which), count(arm.requests), reasons(arm.errors), reasons(arm.fallbacks),
        figure(arm.p50_ms, 1), figure(arm.p99_ms, 1), figure(arm.mean_score, 5),
        element("td", open.join("; ") || "closed", open.length ? "fail" : "")];
    }));
  const needs = new Map(found.remaining.map((each) => [each.check, each]));
  table("gates", ["gate", "verdict", "still needs", "value", "limit", "rows", "counts as"],
    (found.decision ? found.decision.checks : []).map((check) => [name(check.name),
      verdict(check.verdict), still(needs.get(check.name)), said(check.value), said(check.limit), count(check.n), `${check.level}, ${check.mode}`]));
  table("requests", ["time", "who", "asks", "version", "reason", "answer"],
    found.requests.slice().reverse().map((r) => [time(r.time), name(r.actor), r.action + (r.override ? " (override)" : ""),
      r.version ?? "", said(r.reason), said(r.answer ?? "waits for the controller")]));
  table("plans", ["plan", "time", "who", "stage", "champion", "candidate", "share", "verdict", "reason"],
    found.plans.slice().reverse().map((p) => [count(p.epoch), time(p.time), name(p.actor), p.stage, p.champion,
      p.candidate ?? "", name(p.share), verdict(p.verdict), said(p.reason)]));
  table("moves", ["row", "time", "who", "move", "version", "to", "verdict", "override"],
    found.moves.slice().reverse().map((m) => [count(m.row), time(m.time), name(m.actor), m.action, m.version,
      m.to ?? "", verdict(m.verdict), said(answered(m.override))]));
  table("replicas", ["replica", "plan", "champion", "processors busy", "answered", "copies scored", "copies dropped"],
    found.replicas.map((r) => [name(r.replica), count(r.epoch), r.champion, figure(r.busy, 2),
      count(r.answered), count(r.shadow_scored), count(r.shadow_dropped)]));
  table("barred", ["version", "why"], Object.entries(found.barred).map(([version, why]) => [name(version), said(why)]));
  drawn(found.looks);
}

function drawn(looks) {
  const names = [...new Set(looks.flatMap((look) => Object.keys(look.sequences)))];
  at("plots").replaceChildren(...names.map((name) => plot(name, looks.map((l) => l.sequences[name]).filter(Boolean))));
  if (!names.length) at("plots").append(element("p", "No look has had units enough yet."));
}

function plot(name, points) {
  const [width, height, left, bottom] = [420, 190, 48, 24];
  const last = points[points.length - 1];
  const most = Math.max(...points.map((p) => Math.max(Math.abs(p.low), Math.abs(p.high))).slice(-Math.ceil(points.length / 2)),
    Math.abs(last.margin) * 1.5);
  const high = Math.min(most, Math.max(1, Math.abs(last.margin) * 4)) * 100;
  const x = (i) => left + ((width - left - 8) * i) / Math.max(points.length - 1, 1);
  const y = (share) => 8 + ((height - 8 - bottom) * (high - Math.max(-high, Math.min(high, share * 100)))) / (2 * high);
  const made = (kind, attributes, text) => {
    const one = document.createElementNS("http://www.w3.org/2000/svg", kind);
    Object.entries(attributes).forEach(([key, value]) => one.setAttribute(key, value));
    if (text !== undefined) one.textContent = text;
    return one;
  };
  const svg = made("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${name} over the looks` });
  const path = (key) => points.map((p, i) => `${x(i).toFixed(1)},${y(p[key]).toFixed(1)}`);
  svg.append(made("polygon", { class: "band", points: [...path("high"), ...path("low").reverse()].join(" ") }));
  svg.append(made("line", { class: "zero", x1: left, x2: width - 8, y1: y(0), y2: y(0) }));
  svg.append(made("line", { class: "margin", x1: left, x2: width - 8, y1: y(last.margin), y2: y(last.margin) }));
  svg.append(made("polyline", { class: "line", points: path("value").join(" ") }));
  [high, 0, -high].forEach((value) => svg.append(made("text", { x: 2, y: y(value / 100) + 4 }, `${value > 0 ? "+" : ""}${value.toFixed(1)} %`)));
  svg.append(made("text", { x: left, y: height - 6 }, `${points.length} looks, ${last.impressions.toLocaleString("en")} impressions`));
  const box = element("figure");
  const told = [last.value, last.low, last.high].map((v) => `${(v * 100).toFixed(2)} %`);
  box.append(element("figcaption", `${name}: ${told[0]} [${told[1]}, ${told[2]}]`), svg);
  return box;
}

async function refresh() {
  const answer = await fetch(`${base}/v1/rollout`, { credentials: "same-origin" });
  const out = answer.status === 401 || answer.status === 403;
  at("login").hidden = !out;
  at("page").hidden = out;
  if (out) return;
  const found = await answer.json();
  if (!answer.ok) {
    at("fresh").textContent = found.detail;
    return;
  }
  csrf = found.csrf ?? "";
  shown(found);
  at("fresh").textContent = `seen ${new Date().toLocaleTimeString("en-GB")}`;
}

async function send(path, method, body) {
  const headers = { "content-type": "application/json", "x-csrf-token": csrf };
  const answer = await fetch(base + path, { method, headers, body: body && JSON.stringify(body), credentials: "same-origin" });
  return answer.ok ? "" : (await answer.json()).detail;
}

at("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  at("refused").textContent = await send("/release/session", "POST", { key: at("key").value });
  at("key").value = "";
  await refresh();
});

at("ask").addEventListener("submit", async (event) => {
  event.preventDefault();
  const action = event.submitter.value;
  if (["abort", "rollback"].includes(action) && !confirm(`${action}: take the version out now?`)) return;
  const version = action === "start" ? at("version").value : null;
  const body = { action, version, reason: at("reason").value, actor: at("actor").value, override: at("override").checked };
  at("asked").textContent = (await send("/v1/rollout", "POST", body)) || `asked: ${action}`;
  await refresh();
});

at("logout").addEventListener("click", async () => {
  await send("/release/session", "DELETE");
  await refresh();
});

async function follow() {
  try {
    await refresh();
  } catch (error) {
    at("fresh").textContent = `the server does not answer: ${error.message}`;
  }
  setTimeout(follow, EVERY_MS);
}
follow();
