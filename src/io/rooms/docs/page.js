// As light or dark as the system is, also when that changes.
const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", follow);
follow();

SwaggerUIBundle({
  // Absolute, and without the name and password that the address of the page may have: with them a browser fetches nothing.
  url: `${location.origin}/openapi.json`,
  dom_id: "#document",
  deepLinking: true,
  displayRequestDuration: true,
  // Its badge would ask another host whether the document is right.
  validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
});
