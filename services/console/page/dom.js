/** Elements, made once and changed only where something changed: what has the focus keeps it. Texts are set as texts, never as markup. */

export const byId = (id) => document.getElementById(id);

/** h('td', { class: 'n' }, 'text', element …). */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== null && value !== undefined) element.setAttribute(name, value);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export function text(element, value) {
  if (element.textContent !== value) element.textContent = value;
}

/** One text for each element, from the first on. */
export function texts(elements, values) {
  for (const [i, value] of values.entries()) text(elements[i], value);
}

export function attribute(element, name, value) {
  if (value === null) element.removeAttribute(name);
  else if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

/** Keeps the children of `parent` in step with `items`: one element each, found again by its key. */
export function each(parent, items, keyOf, make, update) {
  const known = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let before = null;
  for (const item of items) {
    const key = String(keyOf(item));
    let element = known.get(key);
    if (element === undefined) {
      element = make(item);
      element.dataset.key = key;
    }
    known.delete(key);
    const place = before === null ? parent.firstElementChild : before.nextElementSibling;
    if (element !== place) parent.insertBefore(element, place);
    update(element, item);
    before = element;
  }
  for (const left of known.values()) left.remove();
}

/** Rows of a definition list: `[[name, value, state?], …]`. */
export function facts(list, entries) {
  each(
    list,
    entries,
    ([name]) => name,
    ([name]) => h('div', {}, h('dt', {}, name), h('dd')),
    (row, [, value, state]) => {
      const place = row.lastElementChild;
      if (state === undefined) return text(place, value);
      attribute(place, 'data-state', state);
      if (place.firstElementChild === null) place.append(h('span', { class: 'dot', 'aria-hidden': 'true' }), h('span'));
      text(place.lastElementChild, value);
    },
  );
}

/** A cell of a table whose rows become cards on a narrow screen. */
export function cell(label, number = false) {
  return h('td', { role: 'cell', 'data-label': label, class: number ? 'n' : null });
}
