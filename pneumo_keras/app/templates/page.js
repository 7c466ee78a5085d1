"use strict";

const find = (id) => document.getElementById(id);
const write = (id, text) => { find(id).textContent = text; };

function report(text, failed = false) {
  write("status", text);
  find("status").classList.toggle("failed", failed);
}

function show(name, answer) {
  write("name", name);
  write("warning", answer.warning ? `Warning: ${answer.warning}.` : "");
  find("warning").hidden = !answer.warning;
  write("probability", answer.probability.toFixed(3));
  write("prediction", answer.prediction);
  write("threshold", answer.threshold.toFixed(3));
  write("size", `${answer.data_size} \u00d7 ${answer.data_size} pixels`);
  write("low", `\u2212${answer.limit.toFixed(0)}`);
  write("high", `+${answer.limit.toFixed(0)}`);
  write("legend", `In colour: ${answer.legend}`);
  write("caveat", answer.caveat);
  find("image").src = answer.image;
  find("map").src = answer.map;
  find("answer").hidden = false;
}

async function evaluate(file, name) {
  find("answer").hidden = true;
  report(`Scoring ${name} \u2026`);
  try {
    const response = await fetch("images", { method: "POST", body: file });
    const answer = await response.json();
    if (!response.ok) {
      report(`${name}: ${answer.error}`, true);
      return;
    }
    show(name, answer);
    report("");
  } catch (error) {
    report(`${name}: no answer. Is the page's program still running?`, true);
  }
}

function choose(files) {
  if (files.length > 1) report("One image at a time, please.", true);
  else if (files.length) evaluate(files[0], files[0].name);
}

find("image").addEventListener("load", (event) => {
  event.target.classList.toggle("small", event.target.naturalWidth < 128);
});

const drop = find("drop");
find("file").addEventListener("change", (event) => {
  choose(event.target.files);
});
find("file").addEventListener("click", (event) => { event.target.value = ""; });
for (const kind of ["dragenter", "dragover"]) {
  drop.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.add("over"); });
}
for (const kind of ["dragleave", "drop"]) {
  drop.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.remove("over"); });
}
for (const kind of ["dragover", "drop"]) {
  window.addEventListener(kind, (event) => event.preventDefault());  // an image dropped outside the box is not opened
}
drop.addEventListener("drop", (event) => choose(event.dataTransfer.files));
for (const button of document.querySelectorAll("[data-example]")) {
  button.addEventListener("click", async () => {
    const response = await fetch(`examples/${button.dataset.example}.png`);
    evaluate(await response.blob(), `Example ${Number(button.dataset.example) + 1}`);
  });
}
