# What `rails assets:precompile` does with Sprockets, without Rails.
require "sprockets"

environment = Sprockets::Environment.new(__dir__)
environment.append_path("assets")
manifest = Sprockets::Manifest.new(environment, File.join(__dir__, "public/assets"))
manifest.compile("application.js", "application.css", "drawing.svg", "photo.png", "details.js")
