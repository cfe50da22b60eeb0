// Sorts the table of tensors by a click on a title, or by the page's address: #sort=error, or #sort=error,reverse. Shows the rows
// whose names hold a text. Without any of this the page says the same.
"use strict";
(() => {
  const table = document.getElementById("table");
  if (!table) return;
  const body = table.tBodies[0], titles = [...table.tHead.rows[0].cells], rows = [...body.rows];
  const missing = text => text === "-" || text === "";
  function sort(title, reverse) {
    const column = titles.indexOf(title), isNumber = title.classList.contains("n");
    const keyed = rows.map(row => {
      const text = row.cells[column].textContent;
      return [row, missing(text) ? null : isNumber ? parseFloat(text.replaceAll(",", "")) : text];
    });
    // The most of a number first, and texts from A on; what is not there is last.
    const down = isNumber !== reverse;
    const compare = new Intl.Collator("en", { numeric: true }).compare;
    keyed.sort(([, a], [, b]) => {
      if (a === null || b === null) return (a === null) - (b === null);
      const order = isNumber ? a - b : compare(a, b);
      return down ? -order : order;
    });
    body.append(...keyed.map(([row]) => row));
    for (const t of titles) t.setAttribute("aria-sort", t === title ? (down ? "descending" : "ascending") : "none");
  }
  for (const title of titles) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...title.childNodes);
    title.append(button);
    title.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const first = title.classList.contains("n") ? "descending" : "ascending";
      sort(title, title.getAttribute("aria-sort") === first);
    });
  }
  const asked = /^#sort=([a-z0-9]+)(,reverse)?$/.exec(location.hash);
  const title = asked && titles.find(t => t.dataset.key === asked[1]);
  if (title) sort(title, Boolean(asked[2]));
  const label = document.createElement("label"), input = document.createElement("input");
  input.type = "search";
  label.append("A click on a title sorts; only names that hold ", input);
  table.parentElement.before(label);
  input.addEventListener("input", () => {
    const wanted = input.value.toLowerCase();
    for (const row of rows) row.hidden = !row.cells[0].textContent.toLowerCase().includes(wanted);
  });
})();
