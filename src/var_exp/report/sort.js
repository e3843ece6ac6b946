// Tables with the class "sortable": a button in each head sorts by its column, and back.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const value = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.sort ?? cell.textContent.trim();
  };
  const compare = (a, b) => {
    const [x, y] = [Number(a), Number(b)];
    return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, "en", { numeric: true }) : x - y;
  };
  table.tHead.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const head = button.closest("th");
    const falling = head.getAttribute("aria-sort") === "descending"
      || (!head.hasAttribute("aria-sort") && head.dataset.first === "ascending");
    for (const other of table.tHead.querySelectorAll("th")) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", falling ? "ascending" : "descending");
    const rows = [...body.rows].map((row) => [value(row, head.cellIndex), row]);
    const known = rows.filter(([text]) => text !== "" && text !== "nan");
    known.sort(([a], [b]) => (falling ? compare(a, b) : compare(b, a)));
    const unknown = rows.filter(([text]) => text === "" || text === "nan"); // always last
    body.append(...[...known, ...unknown].map(([, row]) => row));
  });
}
