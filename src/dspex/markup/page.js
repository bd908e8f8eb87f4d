"use strict";
/* Filters and sorts what is on the page. Without this script, the page shows everything. */
const all = (selector, root = document) => [...root.querySelectorAll(selector)];

for (const filters of all("form.filters")) {
  const list = document.getElementById(filters.dataset.list);
  const rows = all(":scope > li", list);
  const texts = new Map();
  const clear = filters.querySelector("button");
  let cell = null;

  const text = (row) => {
    if (!texts.has(row)) texts.set(row, row.textContent.toLowerCase());
    return texts.get(row);
  };
  const apply = () => {
    const status = filters.querySelector("input[type=radio]:checked").value;
    const words = filters.querySelector("input[type=search]").value.toLowerCase().split(/\s+/).filter(Boolean);
    const chosen = cell && new Set(cell.dataset.rows.split(" "));
    let count = 0;
    for (const row of rows) {
      const fits = (!status || row.dataset.status === status)
        && (!chosen || chosen.has(row.id))
        && words.every((word) => text(row).includes(word));
      row.hidden = !fits;
      count += fits;
    }
    filters.querySelector("output").textContent = `${count} of ${rows.length} rows`;
    clear.hidden = !cell;
    if (cell) clear.textContent = `× ${cell.getAttribute("aria-label")}`;
  };
  const sort = () => {
    const key = filters.querySelector("select").value;
    const sign = key === "seconds" ? -1 : 1;
    const order = (a, b) => sign * (Number(a.dataset[key]) - Number(b.dataset[key]));
    list.append(...(key === "worst" ? rows : rows.toSorted(order)));
  };
  const choose = (button) => {
    for (const other of all("button[data-rows]")) other.setAttribute("aria-pressed", String(other === button));
    cell = button;
    apply();
  };
  filters.addEventListener("input", apply);
  filters.addEventListener("submit", (event) => event.preventDefault());
  filters.querySelector("select").addEventListener("change", sort);
  clear.addEventListener("click", () => choose(null));
  for (const button of all("button[data-rows]")) {
    button.disabled = false;
    button.addEventListener("click", () => {
      choose(button.getAttribute("aria-pressed") === "true" ? null : button);
      if (cell) filters.scrollIntoView({ block: "start" });
    });
  }
  filters.hidden = false;
  apply();
}

for (const table of all("table.sortable")) {
  const body = table.tBodies[0];
  const rows = [...body.rows];
  all("thead th", table).forEach((head, column) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const isUp = head.getAttribute("aria-sort") !== "ascending";
      const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
      const order = (a, b) => {
        const [x, y] = [value(a), value(b)];
        const [m, n] = [Number(x), Number(y)];
        if (x === "" || y === "") return (x === "") - (y === "");
        const difference = Number.isNaN(m) || Number.isNaN(n) ? x.localeCompare(y) : m - n;
        return isUp ? difference : -difference;
      };
      for (const other of all("thead th", table)) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", isUp ? "ascending" : "descending");
      body.append(...rows.sort(order));
    });
  });
}
