// Builds and changes elements. Every text becomes a text node: nothing in the page reads markup, so that a name,
// a key or an error that holds some is only ever shown.

const SVG = "http://www.w3.org/2000/svg";

/** An element. `props`: attributes, `on` = {event: listener}, `class`, `text`; children: nodes, texts, lists, nothing. */
export function h(name, props, ...children) {
  return fill(document.createElement(name), props, children);
}

/** The same for SVG. */
export function s(name, props, ...children) {
  return fill(document.createElementNS(SVG, name), props, children);
}

/** One of the pictures that index.html defines. */
export function icon(name) {
  return s("svg", { class: "icon", "aria-hidden": "true" }, s("use", { href: `#i-${name}` }));
}

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else if (name === "text") element.textContent = value;
    else if (name === "value") element.value = value;
    else if (/^on|^style$/i.test(name)) throw new Error(`no attribute ${name}: listeners and styles are set in code`);
    else element.setAttribute(name, value === true ? "" : value);
  }
  append(element, children);
  return element;
}

function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : String(child));
  }
}

/** Puts `children` in place of what is there. */
export function put(element, ...children) {
  element.replaceChildren();
  append(element, children);
  return element;
}

/** Sets the text if it is another one: what does not change is neither laid out nor read out again. */
export function say(element, text) {
  const wanted = text === null || text === undefined ? "" : String(text);
  if (element.textContent !== wanted) element.textContent = wanted;
}

/** Sets an attribute if it has another value; null takes it off. */
export function mark(element, name, value) {
  if (value === null || value === undefined || value === false) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

/** A button that says what it does; `kind`: "primary", "danger", "quiet" or nothing. */
export function button(text, act, { kind = "", picture, title, disabled } = {}) {
  const face = [picture && icon(picture), text && h("span", { text })];
  const props = { type: "button", class: `button ${kind}`, title, disabled, "aria-label": text ? null : title };
  return h("button", { ...props, on: { click: act } }, face);
}

/** A labelled field. `input` is any control; `hint` stands below it. */
export function field(label, input, hint) {
  const id = input.id || `f-${++fields}`;
  input.id = id;
  if (hint) input.setAttribute("aria-describedby", `${id}-hint`);
  return h("div", { class: "field" },
    h("label", { for: id, text: label }),
    input,
    hint && h("p", { class: "hint", id: `${id}-hint`, text: hint }));
}
let fields = 0;

/** A list to choose from; `options`: [[value, text]…]. */
export function choice(options, value, act, props = {}) {
  const select = h("select", { ...props, on: act ? { change: () => act(select.value) } : {} },
    options.map(([of, text]) => h("option", { value: of, text, selected: of === value })));
  return select;
}

/** Waits until `act` was not called for `pause` milliseconds. */
export function later(act, pause) {
  let timer;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => act(...given), pause);
  };
}
