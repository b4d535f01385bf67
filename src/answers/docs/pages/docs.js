// `url` is relative, as all that is loaded: behind a proxy the pages may stand below another path.
document.body.style.margin = "0";
SwaggerUIBundle({
  dom_id: "#docs",
  url: "openapi.json",
  displayRequestDuration: true,
  persistAuthorization: true,
  tryItOutEnabled: true,
  validatorUrl: null,
});
