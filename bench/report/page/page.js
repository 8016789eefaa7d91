// Sorting: each heading of the last row becomes a button. One press sorts, the next the other way, the third restores.
"use strict";
(() => {
  const status = document.getElementById("sorted");
  const opposite = { ascending: "descending", descending: "ascending" };
  const words = { ascending: "lowest first", descending: "highest first" };

  function valueOf(row, index) {
    const cell = row.cells[index];
    const number = cell.dataset.value;
    if (number === undefined) return (cell.querySelector(".name") ?? cell).textContent.trim();
    return number === "" ? null : Number(number);
  }

  function compare(a, b) {
    return typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true });
  }

  function sorted(rows, index, direction) {
    if (!direction) return rows;
    const sign = direction === "ascending" ? 1 : -1;
    const valued = rows.map((row) => [valueOf(row, index), row]);
    const there = valued.filter(([value]) => value !== null).sort(([a], [b]) => sign * compare(a, b));
    // Rows without a value come last, whatever the direction.
    return [...there, ...valued.filter(([value]) => value === null)].map(([, row]) => row);
  }

  function prepare(table) {
    const body = table.tBodies[0];
    const original = [...body.rows];
    const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
    heads.forEach((head, index) => {
      const name = head.querySelector(".name");
      const button = document.createElement("button");
      button.type = "button";
      button.append(...name.childNodes);
      name.append(button);
      const first = head.dataset.first ?? "ascending";
      button.addEventListener("click", () => {
        const now = head.getAttribute("aria-sort");
        const next = !now ? first : now === first ? opposite[first] : null;
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        if (next) head.setAttribute("aria-sort", next);
        body.append(...sorted(original, index, next));
        status.textContent = next ? `Sorted by ${button.textContent}, ${words[next]}` : "Order as made";
      });
    });
  }

  document.querySelectorAll("table.sortable").forEach(prepare);

  // Where the style cannot open what is folded, print opens it.
  addEventListener("beforeprint", () => {
    document.querySelectorAll("details:not([open])").forEach((part) => {
      part.open = true;
      part.dataset.printed = "";
    });
  });
  addEventListener("afterprint", () => {
    document.querySelectorAll("details[data-printed]").forEach((part) => {
      part.open = false;
      delete part.dataset.printed;
    });
  });
})();
