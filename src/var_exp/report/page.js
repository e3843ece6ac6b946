// What needs the script is shown; one opacity for all maps.
for (const element of document.querySelectorAll(".scripted")) element.hidden = false;
const opacities = document.querySelectorAll("[data-opacity]");
for (const slider of opacities) {
  slider.addEventListener("input", () => {
    document.documentElement.style.setProperty("--opacity", slider.value);
    for (const other of opacities) other.value = slider.value;
  });
}
