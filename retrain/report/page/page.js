"use strict";
{
  const data = JSON.parse(document.getElementById("data").textContent);
  const dialog = document.getElementById("gallery");
  const percent = (share) => `${Math.round(100 * share)}%`;

  // All texts are set as text, never as HTML: names of files and labels are whatever they are.
  const element = (tag, text, attributes = {}) => {
    const node = document.createElement(tag);
    if (text) node.textContent = text;
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    return node;
  };

  const caption = (photo) => {
    const lines = element("p");
    if (photo.predicted && photo.predicted !== photo.label) {
      const answer = element("strong");
      answer.append(element("bdi", photo.predicted));
      lines.append(answer, ` ${percent(photo.probability)}`);
      lines.append(element("br"), "is ", element("bdi", photo.label), ` ${percent(photo.own)}`);
    } else {
      lines.append(element("bdi", photo.label));
      if (photo.predicted) lines.append(` ${percent(photo.probability)}`);
    }
    if (photo.split) lines.append(element("br"), photo.split);
    return lines;
  };

  const tile = (photo) => {
    const item = element("li");
    const link = element("a", "", { href: photo.link, title: photo.name });
    if (photo.picture) {
      item.append(element("img", "", { src: photo.picture, alt: photo.name, loading: "lazy" }));
    } else {
      item.append(element("div", "no picture on this page", { class: "missing" }));
    }
    link.append(element("bdi", photo.name));
    item.append(link, caption(photo));
    return item;
  };

  const open = (title, numbers, total) => {
    const rest = total - numbers.length;
    document.getElementById("gallery-title").textContent =
      `${title} (${total})` + (rest > 0 ? `, the first ${numbers.length}` : "");
    document.getElementById("gallery-photos").replaceChildren(
      ...numbers.map((number) => tile(data.photos[number])),
    );
    dialog.showModal();
    dialog.scrollTop = 0;
  };

  for (const button of document.querySelectorAll("[data-photo]")) {
    const photo = data.photos[Number(button.dataset.photo)];
    const image = button.querySelector("img");
    if (!image.hasAttribute("src")) {
      if (photo.picture) image.src = photo.picture;
      else image.replaceWith(element("span", photo.name, { class: "missing" }));
    }
  }

  const boxes = [...document.querySelectorAll("input[data-path]")];
  // A photo may have several findings: it is ticked in all of them, and listed once.
  const ticked = () => [...new Set(boxes.filter((box) => box.checked).map((box) => box.dataset.path))];
  const tick = (path, checked) => {
    for (const box of boxes) if (box.dataset.path === path) box.checked = checked;
  };
  const showList = () => {
    const count = ticked().length;
    document.getElementById("list").hidden = count === 0;
    document.getElementById("ticked").textContent = count === 1 ? "1 photo ticked" : `${count} photos ticked`;
  };
  const listText = () => ticked().map((path) => `${path}\n`).join("");

  const copy = async (text, button) => {
    const before = button.textContent;
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      const area = element("textarea", text, { "aria-hidden": "true" });
      button.after(area);
      area.select();
      button.textContent = document.execCommand("copy") ? "Copied" : "Not copied";
      area.remove();
    }
    setTimeout(() => { button.textContent = before; }, 1500);
  };

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) {
      if (event.target === dialog) dialog.close();
      return;
    }
    const { gallery, photo, copy: text, tick: finding } = button.dataset;
    if (gallery !== undefined) {
      const { title, photos, total } = data.galleries[Number(gallery)];
      open(title, photos, total);
    } else if (photo !== undefined) {
      open(data.photos[Number(photo)].name, [Number(photo)], 1);
    } else if (text !== undefined) {
      copy(text, button);
    } else if (finding !== undefined) {
      for (const box of boxes) if (box.dataset.suggested === finding) tick(box.dataset.path, true);
      showList();
    } else if (button.id === "close") {
      dialog.close();
    } else if (button.id === "copy-list") {
      copy(listText(), button);
    } else if (button.id === "save-list") {
      const address = URL.createObjectURL(new Blob([listText()], { type: "text/plain" }));
      element("a", "", { href: address, download: "photos-to-set-aside.txt" }).click();
      setTimeout(() => URL.revokeObjectURL(address), 10000);
    } else if (button.id === "clear-list") {
      for (const box of boxes) box.checked = false;
      showList();
    }
  });
  document.addEventListener("change", (event) => {
    if (event.target.dataset.path !== undefined) {
      tick(event.target.dataset.path, event.target.checked);
      showList();
    }
  });
  // A link to a finding opens it.
  const openFinding = () => {
    const target = document.getElementById(location.hash.slice(1));
    if (target instanceof HTMLDetailsElement) target.open = true;
  };
  addEventListener("hashchange", openFinding);
  openFinding();
  showList();
}
