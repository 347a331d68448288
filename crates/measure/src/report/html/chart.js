
// Shows the values of the interval under the pointer, or of the interval that the arrow keys select. The page is complete without it.
"use strict";
const course = document.querySelector("#course");
const table = document.querySelector("#intervals");
if (course && table) {
  const names = [...table.tHead.rows[0].cells].map((cell) => cell.textContent);
  const rows = [...table.tBodies[0].rows];
  const readout = document.querySelector("#readout");
  const plots = [...course.querySelectorAll(".plot")];
  const cursors = plots.map((plot) => plot.appendChild(document.createElement("span")));
  for (const cursor of cursors) cursor.className = "cursor";
  let selected = -1;
  const select = (index) => {
    selected = Math.max(0, Math.min(rows.length - 1, index));
    for (const cursor of cursors) cursor.style.left = `${((selected + 0.5) / rows.length) * 100}%`;
    const cells = [...rows[selected].cells].map((cell) => cell.textContent);
    const values = cells.map((cell, column) => `${names[column]} ${cell}`);
    readout.textContent = values.filter((value, column) => cells[column] !== "-").join(" · ");
    course.classList.add("selected");
  };
  readout.textContent = "Point at a chart, or press the arrow keys in it, to read the values of an interval.";
  for (const plot of plots) {
    plot.addEventListener("pointermove", (event) => {
      const box = plot.getBoundingClientRect();
      select(Math.floor(((event.clientX - box.left) / box.width) * rows.length));
    });
  }
  const first = plots[0];
  first.tabIndex = 0;
  first.setAttribute("role", "group");
  first.setAttribute("aria-label", "Chart over time. The arrow keys select an interval.");
  first.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -rows.length, End: rows.length };
    const step = steps[event.key];
    if (step === undefined) return;
    event.preventDefault();
    select(selected + step);
  });
}
