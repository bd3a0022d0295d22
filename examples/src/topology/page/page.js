"use strict";

// Names come from whoever takes part in the mesh: they become text and attributes, never markup.

const SVG = "http://www.w3.org/2000/svg";
const INTERVAL = 1000;
const WIDTH = 210;
const HEIGHT = 58;
const ROUTES = {
  node_proxy: "node proxy, mTLS",
  waypoint: "waypoint, mTLS",
  plaintext: "plaintext",
  denied: "denied",
};

const drawn = new Map();
let looks = 0;

function find(id) {
  return document.getElementById(id);
}

// The element of a key, made when it is first asked for.
function element(layer, key, name, fresh) {
  const full = `${layer} ${key}`;
  let found = drawn.get(full);
  if (!found) {
    found = document.createElementNS(SVG, name);
    find(layer).append(found);
    drawn.set(full, found);
  }
  fresh.add(full);
  return found;
}

function set(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    element.setAttribute(name, value);
  }
}

function part(parent, name, attributes, text) {
  const child = document.createElementNS(SVG, name);
  set(child, attributes);
  if (text !== undefined) {
    child.textContent = text;
  }
  parent.append(child);
}

function cut(text, length) {
  return text.length > length ? `${text.slice(0, length - 1)}…` : text;
}

function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB"];
  let unit = 0;
  while (count >= 1024 && unit < units.length - 1) {
    count /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? Math.round(count) : count.toFixed(1)} ${units[unit]}`;
}

function rate(count) {
  return count >= 10 ? count.toFixed(0) : count.toFixed(1);
}

function drawNode(node, fresh) {
  const group = element("nodes", node.id, "g", fresh);
  const state = node.kind !== "workload" ? "" : node.is_enrolled ? "enrolled" : "outside";
  set(group, { class: `node ${node.kind} ${state}`, transform: `translate(${node.place.x} ${node.place.y})` });
  group.replaceChildren();
  part(group, "title", {}, node.identity || node.name);
  const x = -WIDTH / 2;
  const y = -HEIGHT / 2;
  if (node.kind === "waypoint") {
    const tip = 18;
    const points = [[x, 0], [x + tip, y], [-x - tip, y], [-x, 0], [-x - tip, -y], [x + tip, -y]];
    part(group, "polygon", { points: points.map((point) => point.join(",")).join(" ") });
  } else {
    const rx = node.kind === "service" ? HEIGHT / 2 : 8;
    part(group, "rect", { x, y, width: WIDTH, height: HEIGHT, rx });
  }
  const dot = node.kind === "service" ? node.name.indexOf(".") : -1;
  const name = dot > 0 ? node.name.slice(0, dot) : node.name;
  const notes = {
    workload: [node.namespace, node.nodes.join(" "), node.is_enrolled ? "in the mesh" : "not in the mesh"],
    waypoint: [node.namespace, "waypoint"],
    service: ["service", dot > 0 ? node.name.slice(dot + 1) : ""],
    stranger: [node.namespace, "not known to the control plane"],
  };
  part(group, "text", { class: "name", y: -2 }, cut(name, 21));
  part(group, "text", { class: "note", y: 17 }, cut(notes[node.kind].filter(Boolean).join(" · "), 32));
}

// Where lines leave nodes to the right and reach them from the left: each has a height of its own, in
// the order of what is at its other end.
function ports(links, places) {
  const sides = new Map();
  const at = (side, link, end) => {
    if (!sides.has(side)) {
      sides.set(side, []);
    }
    sides.get(side).push({ link, y: end.y });
  };
  for (const link of links) {
    const bends = link.bends;
    at(`from ${link.from}`, link, bends[0] ?? places.get(link.to));
    at(`to ${link.to}`, link, bends[bends.length - 1] ?? places.get(link.from));
  }
  const offsets = new Map();
  for (const [side, lines] of sides) {
    lines.sort((one, other) => one.y - other.y);
    const step = Math.min(18, (HEIGHT - 12) / Math.max(lines.length - 1, 1));
    lines.forEach(({ link }, number) => {
      offsets.set(`${side} ${link.key}`, (number - (lines.length - 1) / 2) * step);
    });
  }
  return offsets;
}

// A line that is level wherever it passes a column.
function curve(points) {
  let path = `M${points[0].x} ${points[0].y}`;
  for (let number = 1; number < points.length; number += 1) {
    const [one, other] = [points[number - 1], points[number]];
    const middle = (one.x + other.x) / 2;
    path += ` C${middle} ${one.y} ${middle} ${other.y} ${other.x} ${other.y}`;
  }
  return path;
}

function manner({ route, is_encrypted }) {
  return route === "node_proxy" && !is_encrypted ? "within one node" : ROUTES[route];
}

function isIdle(link) {
  return link.connections_per_second + link.bytes_per_second < 0.05;
}

function rates(link) {
  const flowing = link.bytes_per_second >= 1 ? ` · ${bytes(link.bytes_per_second)}/s` : "";
  return `${rate(link.connections_per_second)}/s${flowing}`;
}

function drawLink(link, near, offsets, places, bottom, fresh) {
  const [from, to] = [places.get(link.from), places.get(link.to)];
  const kind = link.route ?? "member";
  const state = link.route && isIdle(link) ? "idle" : "";
  const out = offsets.get(`from ${link.from} ${link.key}`);
  const into = offsets.get(`to ${link.to} ${link.key}`);
  const tip = link.route ? 9 : 0;
  const start = { x: from.x + WIDTH / 2, y: from.y + out };
  const end = { x: to.x - WIDTH / 2 - tip, y: to.y + into };
  // Back to where others came from: below everything, and in again from the left.
  const low = from === to ? from.y + HEIGHT * 0.8 : bottom + (out + into) / 2;
  const d = to.x > from.x
    ? curve([start, ...link.bends.map(({ x, y }) => ({ x, y: y + (out + into) / 2 })), end])
    : `M${start.x} ${start.y} C${start.x + 80} ${start.y} ${start.x + 80} ${low} ${start.x} ${low} `
      + `L${end.x} ${low} C${end.x - 80} ${low} ${end.x - 80} ${end.y} ${end.x} ${end.y}`;
  const path = element("links", link.key, "path", fresh);
  const width = link.route ? Math.min(2 + Math.log10(1 + link.bytes_per_second) * 0.5, 6).toFixed(1) : 1.5;
  set(path, { class: `link ${kind} ${state}`, "data-from": link.from, "data-to": link.to, d, "stroke-width": width });
  path.replaceChildren();
  if (!link.route) {
    part(path, "title", {}, "a service and a workload of it, between which nothing goes on");
    return;
  }
  part(path, "title", {}, `${manner(link)}: ${link.connections} opened, ${rates(link)}`);
  const arrow = element("links", `${link.key} arrow`, "polygon", fresh);
  const head = [[-2, -6], [-2, 6], [tip, 0]];
  set(arrow, {
    class: `arrow ${kind} ${state}`,
    points: head.map(([x, y]) => `${end.x + x},${end.y + y}`).join(" "),
  });
  if (!state) {
    // Those beside each other are at different lengths of their lines.
    const place = 74 + (near % 2) * 100;
    const label = element("labels", link.key, "text", fresh);
    const { x, y } = path.getPointAtLength(place);
    set(label, { class: `rate ${kind}`, x, y: y - 5 });
    label.textContent = rates(link);
  }
}

function drawLinks(graph, fresh) {
  const places = new Map(graph.nodes.map((node) => [node.id, node.place]));
  const links = graph.links.filter((link) => places.has(link.from) && places.has(link.to));
  for (const link of links) {
    link.key = JSON.stringify([link.route, link.from, link.to]);
  }
  const offsets = ports(links, places);
  const bottom = graph.size[1] - 14;
  const busy = new Map();
  const height = (link) => offsets.get(`from ${link.from} ${link.key}`);
  links.sort((one, other) => height(one) - height(other));
  for (const link of links) {
    const near = busy.get(link.from) ?? 0;
    busy.set(link.from, near + (link.route && !isIdle(link) ? 1 : 0));
    drawLink(link, near, offsets, places, bottom, fresh);
  }
}

function drawFlows(graph) {
  const names = new Map(graph.nodes.map((node) => [node.id, node.name]));
  const rows = graph.flows.map((flow) => {
    const row = document.createElement("tr");
    const cell = (text, kind) => {
      const cell = document.createElement("td");
      cell.textContent = text;
      cell.className = kind ?? "";
      row.append(cell);
    };
    cell(names.get(flow.source) ?? flow.source);
    cell(names.get(flow.destination) ?? flow.destination);
    cell(flow.service);
    cell(manner(flow), flow.route);
    cell(flow.connections, "number");
    cell(flow.failed, "number");
    cell(rate(flow.connections_per_second), "number");
    cell(bytes(flow.bytes_per_second), "number");
    const identities = [flow.source_principal, flow.destination_principal].filter(Boolean);
    cell(identities.length > 0 ? identities.join(" → ") : "none", "identities");
    return row;
  });
  find("flows").replaceChildren(...rows);
}

function draw(graph) {
  const fresh = new Set();
  const [width, height] = graph.size;
  set(find("graph"), { viewBox: `0 0 ${width} ${height}`, width, height });
  drawLinks(graph, fresh);
  graph.nodes.forEach((node) => drawNode(node, fresh));
  for (const [key, element] of drawn) {
    if (!fresh.has(key)) {
      element.remove();
      drawn.delete(key);
    }
  }
  drawFlows(graph);
  for (const route of Object.keys(ROUTES)) {
    const count = graph.flows.filter((flow) => flow.route === route).length;
    document.querySelector(`#legend .${route} b`).textContent = count;
  }
  const problems = graph.problems.map((problem) => {
    const item = document.createElement("li");
    item.textContent = problem;
    return item;
  });
  find("problems").replaceChildren(...problems);
}

async function look() {
  const state = find("state");
  try {
    const response = await fetch("/topology.json");
    if (!response.ok) {
      throw new Error(`status ${response.status}`);
    }
    draw(await response.json());
    looks += 1;
    state.className = "";
    state.textContent = `live, ${new Date().toLocaleTimeString("en-GB")}`;
    document.body.dataset.looks = looks;
  } catch (error) {
    state.className = "stale";
    state.textContent = `no news: ${error.message}`;
  }
  setTimeout(look, INTERVAL);
}

look();
