// A box above every long table: it hides the rows that do not contain all the words that are typed.
document.addEventListener("DOMContentLoaded", () => {
  for (const table of document.querySelectorAll(".md-content table")) {
    const rows = [...table.querySelectorAll("tbody tr")];
    if (rows.length < 30) continue;
    const box = document.createElement("input");
    box.type = "search";
    box.className = "table-filter";
    box.placeholder = `filter ${rows.length} rows`;
    box.setAttribute("aria-label", "filter the rows of the table");
    box.addEventListener("input", () => {
      const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
      }
    });
    table.before(box);
  }
});
